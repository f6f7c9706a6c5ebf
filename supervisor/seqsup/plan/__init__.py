"""From a profile and this machine to a plan: what will be done, resolved."""
