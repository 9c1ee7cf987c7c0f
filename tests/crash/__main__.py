"""``python -m tests.crash --rounds 200``: kill processes, count what the kills hit, and reckon what is left."""

import argparse
import shutil
import sys
import tempfile
import time

from tests.crash.campaign import Campaign, Trouble
from tests.crash.reckoning import Reckoning

ZEROS = (
    "lost", "duplicates", "half transactions", "made up", "failed and there", "where it must not be",
    "differing tables", "damaged files", "not at rest", "refused without a reason",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--quiet", action="store_true", help="print the counts only")
    parser.add_argument("--keep", action="store_true", help="leave the files")
    chosen = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="octodb-crash-")
    campaign = Campaign(folder, chosen.seed, (lambda text: None) if chosen.quiet else lambda t: print(t, flush=True))
    try:
        reckoning = Reckoning(campaign, campaign.run(chosen.rounds))
    except Trouble as trouble:
        print(f"FAILED in round {campaign.counts['rounds']} (files in {folder}): {trouble}")
        return 1
    print(report(chosen.seed, campaign, reckoning))
    if reckoning.problems:
        print(f"FAILED, files in {folder}:", *reckoning.problems[:20], sep="\n  ")
        return 1
    if 3 * campaign.hits < campaign.kills:
        print("FAILED: less than a third of the kills hit a commit, a push or an apply")
        return 1
    if not chosen.keep:
        shutil.rmtree(folder)
    return 0


def report(seed, campaign, reckoning):
    lines = [f"seed {seed}"]
    for counts in (campaign.counts, campaign.inside, reckoning.counts):
        lines.append("")
        lines += [f"{number:9,}  {what}" for what, number in sorted(counts.items()) if what not in ZEROS]
    lines.append("")
    lines += [f"{reckoning.counts[what]:9,}  {what}" for what in ZEROS]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
