"""The process of a primary that is measured: ``python -m benchmarks.serve_primary FILE AUTH``.

Prints the address it listens on and serves until its standard input is closed.
"""

from __future__ import annotations

import sys
from contextlib import closing

import octodb
from benchmarks.processes import raise_file_limit

__all__: list[str] = []


def main() -> None:
    path, auth = sys.argv[1:3]
    raise_file_limit()
    uri = f"file:{path}?node=primary&bind=tcp://127.0.0.1:0&auth={auth}"
    with closing(octodb.connect(uri)) as primary:
        if auth == "user":
            primary.register_function("user_login", 2, lambda data, _node_info: int(data))
        print(primary.sync_status["bind"][0], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
