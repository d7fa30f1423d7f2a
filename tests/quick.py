"""Loaded before every plugin of pytest: compile tests once, whatever the shell says.

With `PYTHONDONTWRITEBYTECODE`, which some images set, every process compiles all of them each time.
"""

import sys

sys.dont_write_bytecode = False
