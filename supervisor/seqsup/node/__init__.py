"""Node processes in a tree: found, started, measured and diagnosed."""
