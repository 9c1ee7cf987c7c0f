"""What encryption costs, cipher by cipher, beside a plain file.

Run by itself, as it needs apsw with encryption: ``PYTHONPATH=.venv/encryption python -m benchmarks.encrypted``.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from statistics import median
from typing import Final

import octodb
from octodb.storage.encryption import CIPHERS

_ROUNDS: Final = 5
_INSERTS: Final = 1000
_ROWS: Final = 200_000


def main() -> None:
    print(f"{'cipher':12}{'open ms':>10}{'INSERT µs':>12}{'scan ms':>10}   ({_INSERTS} autocommits, {_ROWS:,} rows)")
    for cipher in ("", *CIPHERS):
        with tempfile.TemporaryDirectory() as folder:
            keys = f"&cipher={cipher}&key=a%20key" if cipher else ""
            figures = _measure(f"file:{folder}/primary.db?node=primary{keys}")
        print(f"{cipher or 'none':12}{figures[0]:10.1f}{figures[1]:12.1f}{figures[2]:10.1f}")


def _measure(uri: str) -> tuple[float, float, float]:
    """Milliseconds to open, microseconds an INSERT in autocommit mode, milliseconds to read a large table."""
    with closing(octodb.connect(uri, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, row_owner)")
        conn.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, a, b)")
        conn.execute(
            "INSERT INTO big WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " SELECT i, 'name ' || i, 'some more text of row ' || i FROM n",
            (_ROWS,),
        )
        conn.execute("PRAGMA synchronous = NORMAL")
        inserts = [_seconds(lambda: _insert(conn)) / _INSERTS for _ in range(_ROUNDS)]
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    opens, scans = [], []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with closing(octodb.connect(uri)) as conn:
            opens.append(time.perf_counter() - began)
            # a cache that holds a few pages only: each is decrypted
            conn.execute("PRAGMA cache_size = 10")
            scans.append(_seconds(lambda: conn.execute("SELECT sum(length(b)) FROM big").fetchone()))
    return median(opens) * 1e3, median(inserts) * 1e6, median(scans) * 1e3


def _insert(conn: octodb.Connection) -> None:
    for _ in range(_INSERTS):
        conn.execute("INSERT INTO t (a, b) VALUES (?, ?)", ("some text", 17))


def _seconds(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
