"""Frozen values and facts; memory in bytes, time in seconds."""
