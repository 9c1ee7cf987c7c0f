"""Whole histories of sync in virtual time, each from one seed; see world.py. ``make sim SEEDS=n`` runs more of them."""

import asyncio

import pytest

from tests.simulation.world import run

DAY_S = 86400.0
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


def test_a_device_that_was_offline_for_ninety_days_comes_back_with_its_edits():
    """Everybody else went on, and the log goes back thirty days only."""
    history = run(3, play=_ninety_days)
    assert history.counts["downloaded again"] == 1
    assert history.counts["accepted"] >= 3


async def _ninety_days(history):
    primary, (away, other) = history.primary, history.devices[:2]
    while not (away.is_ready() and other.is_ready()):
        await asyncio.sleep(1)
    away.engine._connection.abort("the line is cut")
    history.network.part(away, primary, 90 * DAY_S)
    for day in range(90):
        away.execute("INSERT INTO word (spelling, mark) VALUES (?, 'u10·')", (f"offline {day}",))
        history._committed(away)
        primary.execute("INSERT INTO word (spelling, mark, row_owner) VALUES (?, 'all·', '*')", (f"online {day}",))
        await asyncio.sleep(0.5)
        history.loop.now += DAY_S
    primary.execute("INSERT INTO item (name, size, mark, row_owner) VALUES ('n1', 1, 'all·', '*')")
    away.execute("INSERT INTO item (name, size, mark) VALUES ('n1', 2, 'u10·')")  # and one that cannot be
    history._committed(away)
    history.checks.archive_log()
    assert primary.cut_log(30 * DAY_S, 0)
    history.network.heal()
    await history._settle()
    assert primary.rows("SELECT count(*) FROM word WHERE spelling LIKE 'offline %'") == [(90,)]
    assert [row.rejection.code for row in away.outbox().rejected()] == ["constraint"]
    history.checks.everything()
