"""Whether this machine is fit to run agents, and whether a run kept its promises."""
