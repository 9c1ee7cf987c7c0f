"""The process of a primary that is measured: ``python -m benchmarks.serve_primary FILE``.

Prints the address it listens on and serves until its standard input is closed.
"""

from __future__ import annotations

import sys
from contextlib import closing

import octodb

__all__: list[str] = []


def main() -> None:
    with closing(octodb.connect(f"file:{sys.argv[1]}?node=primary&bind=tcp://127.0.0.1:0")) as primary:
        print(primary.sync_status["bind"][0], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
