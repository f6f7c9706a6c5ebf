"""Process trees: find, measure and end them."""
