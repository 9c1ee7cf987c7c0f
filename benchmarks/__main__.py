"""``python -m benchmarks [NAME…]``: run the benchmarks and print their tables; ``--save`` keeps the text.

``python -m benchmarks growth`` shows what becomes of the figures as devices, log, transactions and users grow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import (
    autocommit,
    download,
    drain,
    growth_devices,
    growth_log,
    growth_transactions,
    growth_users,
    idle,
    ingest,
    latency,
    queries,
    transactions,
    wire_bytes,
)
from benchmarks.measuring import Size
from benchmarks.report import Comparison, machine_text, table_text

__all__ = ["BENCHMARKS", "GROWTH", "main"]

_Benchmark = tuple[str, Callable[..., list[Comparison]]]
_GROWTH_NAME: Final = "growth"
BENCHMARKS: Final[Mapping[str, _Benchmark]] = MappingProxyType(
    {
        "autocommit": (autocommit.TITLE, autocommit.run),
        "transactions": (transactions.TITLE, transactions.run),
        "queries": (queries.TITLE, queries.run),
        "ingest": (ingest.TITLE, ingest.run),
        "latency": (latency.TITLE, latency.run),
        "download": (download.TITLE, download.run),
        "drain": (drain.TITLE, drain.run),
        "idle": (idle.TITLE, idle.run),
        "wire-bytes": (wire_bytes.TITLE, wire_bytes.run),
    }
)
GROWTH: Final[Mapping[str, _Benchmark]] = MappingProxyType(
    {
        "growth-devices": (growth_devices.TITLE, growth_devices.run),
        "growth-log": (growth_log.TITLE, growth_log.run),
        "growth-transactions": (growth_transactions.TITLE, growth_transactions.run),
        "growth-users": (growth_users.TITLE, growth_users.run),
    }
)
_RESULTS: Final = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None, results: Path = _RESULTS) -> None:
    """Raises SystemExit on wrong usage, RuntimeError when what was measured turned out to be wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed of OctoDB beside its peers.")
    known = [*BENCHMARKS, _GROWTH_NAME, *GROWTH]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)}; all but those of growth when none"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller amounts: all in about two minutes")
    size.add_argument(
        "--tiny", action="store_true", help="tiny amounts, to see that it works; the numbers mean nothing"
    )
    parser.add_argument("--save", action="store_true", help=f"keep the text in {results.name}/DATE-NAME.txt as well")
    parser.add_argument("--folder", help="make the files to measure in this folder (its disk is measured, too)")
    parser.add_argument(
        "--log-entries", type=int, metavar="N", help="let the log of growth-log grow to N entries, e.g. 10000000"
    )
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        if name not in known:
            parser.error(f"there is no benchmark {name}; there are {', '.join(known)}")
    run_all(
        _benchmarks(chosen.names, chosen.log_entries),
        Size.QUICK if chosen.quick else Size.TINY if chosen.tiny else Size.FULL,
        chosen.folder,
        results if chosen.save else None,
    )


def _benchmarks(names: Sequence[str], log_entries_max: int | None) -> dict[str, _Benchmark]:
    """Those that were named; 'growth' stands for all of them."""
    every = {**BENCHMARKS, **GROWTH}
    title, run = every["growth-log"]
    every["growth-log"] = (title, partial(run, log_entries_max=log_entries_max))
    chosen: dict[str, _Benchmark] = {}
    for name in names or BENCHMARKS:
        for each in GROWTH if name == _GROWTH_NAME else (name,):
            chosen[each] = every[each]
    return chosen


def run_all(benchmarks: Mapping[str, _Benchmark], size: Size, folder: str | None, results: Path | None) -> None:
    """Print the machine and each table as soon as it is there, and save them in ``results``."""
    machine = machine_text(folder)
    if size is not Size.FULL:
        machine += f"\n{size.value} amounts: not the figures to quote"
    print(machine, flush=True)
    for name, (title, run) in benchmarks.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="octodb-bench-", dir=folder) as here:
            table = table_text(title, run(Path(here), size))
        print(f"\n{table}", flush=True)
        print(f"  ({name} took {time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
        if results is not None:
            results.mkdir(exist_ok=True)
            (results / f"{date.today().isoformat()}-{name}.txt").write_text(f"{machine}\n\n{table}\n", "utf-8")


if __name__ == "__main__":
    main()
