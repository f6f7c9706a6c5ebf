"""Readers of the JSON streams that agent CLIs write. Pure: lines in, facts out; the caller brings bytes and time."""
