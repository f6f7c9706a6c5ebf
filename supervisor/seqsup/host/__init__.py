"""This machine: its memory, its users, and the one place that waits."""
