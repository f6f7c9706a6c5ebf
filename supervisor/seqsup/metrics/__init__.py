"""Metrics of a run, and of a queue, for Prometheus: their catalogue, values as figures and rows, and the ways out."""
