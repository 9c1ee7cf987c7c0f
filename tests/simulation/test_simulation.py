"""Whole histories of sync in virtual time, each from one seed; see world.py. ``make sim SEEDS=n`` runs more of them."""

import pytest

from tests.simulation.world import run

# Seeds that once broke a promise, and what it was.
_REGRESSIONS = [
    12,  # guards of a dropped table made every later write fail
    20885,  # a table was dropped between two looks of an engine that started
    148,  # an application committed between two statements of the engine, and the entry went to nobody
]


@pytest.mark.parametrize("block", range(10))
def test_every_promise_is_kept(block):
    for seed in range(10_000 + 15 * block, 10_000 + 15 * (block + 1)):
        run(seed)


@pytest.mark.parametrize("seed", _REGRESSIONS)
def test_what_was_broken_once_is_kept_now(seed):
    run(seed)


def test_a_seed_gives_one_history():
    first, second = run(7), run(7)
    assert first.digest == second.digest
    assert first.digest != run(8).digest
