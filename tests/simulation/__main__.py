"""``python -m tests.simulation``: run histories by seed; replay one and print it."""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.world import BrokenPromise, run


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one and print it")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return replay(chosen.seed)
    return many(range(chosen.first, chosen.first + chosen.seeds))


def replay(seed):
    try:
        history = run(seed, keep=True)
    except Exception as error:
        print("\n".join(getattr(error, "history").lines or ()))
        traceback.print_exc()
        return 1
    print("\n".join(history.lines))
    print(f"seed {seed}: every promise kept; {history.digest[:16]}")
    return 0


def many(seeds):
    counts = Counter()
    failed = []
    started = time.perf_counter()
    for seed in seeds:
        try:
            counts += run(seed).counts
        except Exception as error:
            kind = error.promise if isinstance(error, BrokenPromise) else type(error).__name__
            failed.append((seed, kind))
            print(f"seed {seed}: {str(error)[:400]}", flush=True)
    seconds = time.perf_counter() - started
    for what, number in sorted(counts.items()):
        print(f"{number:9,}  {what}")
    print(f"{len(seeds)} histories in {seconds:.0f} s, {len(failed)} failed", *(f"{s} ({k})" for s, k in failed[:20]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
