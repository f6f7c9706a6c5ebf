"""What tests share: histories, profiles, real programs, waiting for facts."""
