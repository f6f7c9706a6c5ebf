"""First on a search path it hides the package of this name: no Node of Python's then, as on a machine without one."""
