"""Jobs that wait for a machine: what they are, where they are kept, and how workers take them."""
