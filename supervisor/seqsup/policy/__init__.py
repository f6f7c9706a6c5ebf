"""Every decision and classification, pure: values in, a value out. No clock, no os, no log."""
