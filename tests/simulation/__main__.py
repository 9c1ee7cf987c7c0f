"""``python -m tests.simulation``: run histories by seed; replay one and print it."""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.mutations import MUTATIONS, mutated
from tests.simulation.world import BrokenPromise, run

# What has to happen in a run of some hundred histories: a run without it has not tried what it claims to try.
_MUST_HAPPEN = (
    "accepted", "body with other row ids", "brought in", "brought in directly beside a queue", "cut after a commit",
    "committed between two statements of the engine", "copy healed", "device file copied",
    "device restored from a backup", "device revoked", "disk of a primary full", "disk of a secondary full",
    "displaced", "downloaded again", "killed in an application's transaction", "line cut", "log cut",
    "ninety days passed", "offered again", "partition", "power cut of a secondary", "primary killed",
    "primary killed at a statement", "primary killed in its own transaction", "primary restored",
    "primary's file copied back", "range repaired", "rows damaged", "refused: ConstraintError", "refused: FullError",
    "rejected", "rejected with what it builds on", "secondary killed", "secondary killed at a statement",
    "slow network", "slow primary", "slow secondary", "transaction lost with the power",
)  # fmt: skip
_HISTORIES_MIN = 200


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one and print it")
    parser.add_argument("--mutate", choices=sorted(MUTATIONS), help="put this fault into the product, and find it")
    chosen = parser.parse_args()
    with mutated(chosen.mutate):
        if chosen.seed is not None:
            return replay(chosen.seed)
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        return many(seeds) if chosen.mutate is None else hunt(seeds, chosen.mutate)


def hunt(seeds, mutation):
    """Play histories until one notices the fault: exit 1, as for any broken promise. 0: the simulator is blind."""
    for number, seed in enumerate(seeds, 1):
        try:
            run(seed)
        except Exception as error:
            kind = error.promise if isinstance(error, BrokenPromise) else type(error).__name__
            print(f"{mutation}: seed {seed} breaks {kind}, history {number}: {str(error)[:200]}")
            return 1
    print(f"{mutation}: none of {len(seeds)} histories noticed")
    return 0


def replay(seed):
    try:
        history = run(seed, keep=True)
    except Exception as error:
        print("\n".join(error.history.lines or ()))
        traceback.print_exc()
        return 1
    print("\n".join(history.lines))
    print(f"seed {seed}: every promise kept; {history.digest[:16]}")
    return 0


def many(seeds):
    counts = Counter()
    failed = []
    started = time.perf_counter()
    slowest = (0.0, 0)
    for seed in seeds:
        began = time.perf_counter()
        try:
            counts += run(seed).counts
        except Exception as error:
            kind = error.promise if isinstance(error, BrokenPromise) else type(error).__name__
            failed.append((seed, kind))
            print(f"seed {seed}: {str(error)[:400]}", flush=True)
        slowest = max(slowest, (time.perf_counter() - began, seed))
    seconds = time.perf_counter() - started
    missing = [what for what in _MUST_HAPPEN if not counts[what]] if len(seeds) >= _HISTORIES_MIN else []
    for what, number in sorted(counts.items()):
        print(f"{number:9,}  {what}")
    print(f"slowest: seed {slowest[1]}, {slowest[0]:.1f} s")
    print(f"{len(seeds)} histories in {seconds:.0f} s, {len(failed)} failed", *(f"{s} ({k})" for s, k in failed[:20]))
    if missing:
        print(f"never happened: {', '.join(missing)}")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
