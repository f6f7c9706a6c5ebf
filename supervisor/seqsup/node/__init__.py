"""What runs inside a tree in Node: found, started, asked and diagnosed."""
