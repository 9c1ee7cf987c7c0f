"""What a process was doing when it was killed: bytes in a mapped file, which stay as kill -9 found them.

Each thread of interest has a byte of its own, so a process may die inside two things at once. The program under test
sets them through thin wrappers around the product's own methods; the harness reads them after the process is gone, and
polls them to choose the moment of the kill.
"""

import functools
import mmap
import os

# Code → what the process is in the middle of. Codes of one byte position only ever come from one thread.
PHASES = {
    0: "",
    1: "commit: writing down",
    2: "commit: COMMIT",
    10: "waiting to push",
    11: "push: judging",
    12: "push: COMMIT",
    20: "waiting to apply",
    21: "apply: rebasing",
    22: "apply: COMMIT",
    31: "download",
    32: "storing the welcome",
    33: "reading the outbox",
}
CODES = {name: code for code, name in PHASES.items()}
APPLICATION, STORAGE, COMMAND = 0, 1, 2
_BYTES = 64


class BlackBox:
    """The bytes of one process. The harness makes the file, the process maps it."""

    def __init__(self, path):
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(bytes(_BYTES))
        with open(path, "r+b") as file:
            self.bytes = mmap.mmap(file.fileno(), _BYTES)

    def clear(self):
        self.bytes[:] = bytes(_BYTES)

    def inside(self):
        """Names of what the process is, or was, in the middle of."""
        return tuple(PHASES[code] for code in (self.bytes[APPLICATION], self.bytes[STORAGE]) if code)

    def watch(self, owner, method, thread, name):
        """While ``owner.method`` runs, the byte of ``thread`` says ``name``."""
        original, code, mapped = getattr(owner, method), CODES[name], self.bytes

        @functools.wraps(original)
        def watched(*arguments, **named):
            before, mapped[thread] = mapped[thread], code
            try:
                return original(*arguments, **named)
            finally:
                mapped[thread] = before

        setattr(owner, method, watched)

    def turn(self, owner, method, thread, name):
        """Once ``owner.method`` has returned the byte of ``thread`` says ``name``, if it said anything."""
        original, code, mapped = getattr(owner, method), CODES[name], self.bytes

        @functools.wraps(original)
        def watched(*arguments, **named):
            result = original(*arguments, **named)
            if mapped[thread]:
                mapped[thread] = code
            return result

        setattr(owner, method, watched)
