"""seqsup itself, which finds itself grown after every chain."""

import sys

from seqsup import cli, policy

policy.renewal_due = lambda own, first: True
sys.exit(cli.main(sys.argv[1:]))
