"""From a profile and this machine to a plan: what will be done, resolved."""

from seqsup.host import slim_hashlib as slim_hashlib  # before any module here imports hashlib
