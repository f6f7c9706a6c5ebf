"""seqsup itself, on a machine whose calendar jumps by up to a day back or forth at each reading. ARGS…"""

import random
import sys
import time

from seqsup.cli import app

DAY = 86400.0
rightly = time.time
dice = random.Random(4711)

time.time = lambda: rightly() + dice.choice([-DAY, 0.0, DAY])
sys.exit(app.main(sys.argv[1:]))
