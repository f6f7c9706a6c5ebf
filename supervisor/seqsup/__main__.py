"""`python -m seqsup`."""

from .cli import main

raise SystemExit(main())
