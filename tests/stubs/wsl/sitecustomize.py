"""Make Python as in WSL 2: first in PYTHONPATH, it gives the kernel the name that Microsoft gives its own."""

import os

_told = os.uname()
_wsl = os.uname_result((_told.sysname, _told.nodename, "6.6.87.2-microsoft-standard-WSL2", *_told[3:]))
os.uname = lambda: _wsl
