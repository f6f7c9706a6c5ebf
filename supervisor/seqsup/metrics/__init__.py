"""A run's metrics for Prometheus: their catalogue, their values as figures and rows, and the ways out."""
