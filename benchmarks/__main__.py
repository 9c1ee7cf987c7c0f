"""``python -m benchmarks [NAME…]``: run the benchmarks and print their tables; ``--save`` keeps the text."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import autocommit, ingest, queries, transactions
from benchmarks.report import Comparison, machine_text, table_text

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: Final[Mapping[str, tuple[str, Callable[..., list[Comparison]]]]] = MappingProxyType(
    {
        "autocommit": (autocommit.TITLE, autocommit.run),
        "transactions": (transactions.TITLE, transactions.run),
        "queries": (queries.TITLE, queries.run),
        "ingest": (ingest.TITLE, ingest.run),
    }
)
_RESULTS: Final = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None, results: Path = _RESULTS) -> None:
    """Raises SystemExit on wrong usage, RuntimeError when what was measured turned out to be wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed of OctoDB beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all when none")
    parser.add_argument(
        "--quick", action="store_true", help="tiny amounts, to see that it works; the numbers mean nothing"
    )
    parser.add_argument("--save", action="store_true", help=f"keep the text in {results.name}/DATE-NAME.txt as well")
    parser.add_argument("--folder", help="make the files to measure in this folder (its disk is measured, too)")
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name}; there are {', '.join(BENCHMARKS)}")
    machine = machine_text(chosen.folder)
    print(machine, flush=True)
    for name in chosen.names or BENCHMARKS:
        title, run = BENCHMARKS[name]
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="octodb-bench-", dir=chosen.folder) as folder:
            table = table_text(title, run(Path(folder), quick=chosen.quick))
        print(f"\n{table}", flush=True)
        print(f"  ({name} took {time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
        if chosen.save:
            results.mkdir(exist_ok=True)
            (results / f"{date.today().isoformat()}-{name}.txt").write_text(f"{machine}\n\n{table}\n", "utf-8")


if __name__ == "__main__":
    main()
