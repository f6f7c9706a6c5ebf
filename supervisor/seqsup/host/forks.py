"""A fork in a process with threads: of a thread that imports a module or calls SQLite, the child would keep the locks.

Such a thread holds STEADY meanwhile, and so does the thread that forks.
"""

import threading

STEADY = threading.Lock()
