"""Places for which processes take turns: so many work at once, the others wait."""

import fcntl
import tempfile
import time
from contextlib import suppress

LOOK_S = 0.05


class Turns:
    """Places that processes share which are forked from the one that makes this.

    A place is a byte of a file, locked by whoever has it: a process that is killed gives it back.

    Parameters
    ----------
    n_places : int
    """

    def __init__(self, n_places: int) -> None:
        self.file, self.n_places, self.held = tempfile.TemporaryFile(), n_places, -1

    def take(self) -> None:
        """Wait for a place, unless one is held."""
        while self.held < 0:
            for place in range(self.n_places):
                with suppress(BlockingIOError):
                    fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                    self.held = place
                    return
            time.sleep(LOOK_S)

    def give(self) -> None:
        """Give back the place that is held, if any."""
        if self.held >= 0:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, self.held)
            self.held = -1
