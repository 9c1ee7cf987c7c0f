"""What was refused: counts by kind, and lines that are few, short and cannot pass for others."""

import logging

from octodb.runtime.refusals import KINDS, Refusals


def test_each_kind_is_counted_from_the_beginning():
    refusals = Refusals()
    assert refusals.counts == dict.fromkeys(KINDS, 0)
    refusals.note("forged", "node 7", "reason", 1.0)
    refusals.note("forged", "node 7", "reason", 1.0, count=3)
    assert refusals.counts["forged"] == 4


def test_a_flood_is_a_line_now_and_then(caplog):
    refusals = Refusals()
    with caplog.at_level(logging.WARNING, logger="octodb"):
        for number in range(1000):
            refusals.note("signatures", "192.0.2.1", "it does not fit", 100.0 + number / 50)
        refusals.note("timeouts", "192.0.2.1", "too slow", 110.0)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "refused signatures: 192.0.2.1: it does not fit",
        "refused signatures: 192.0.2.1: it does not fit (500 times)",
        "refused timeouts: 192.0.2.1: too slow",
    ]


def test_a_reason_is_one_short_line(caplog):
    with caplog.at_level(logging.WARNING, logger="octodb"):
        Refusals().note("forged", "node 7", "there is no table x\nrefused nothing\x1b[2J" + "y" * 5000, 1.0)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 300
