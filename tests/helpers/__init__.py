"""Helpers that tests share: histories, profiles, real programs, waiting for facts."""
