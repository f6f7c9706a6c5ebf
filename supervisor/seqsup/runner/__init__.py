"""Carrying a plan out: the agents of a run in order, what runs beside them, and recovery."""
