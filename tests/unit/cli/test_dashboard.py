"""The dashboard's drawing: at every width, for every state, from a status alone."""

import itertools
import json

import pytest

from octocli.dashboard.history import EVENTS_MAX, History
from octocli.dashboard.lines import changed_part, json_line, watch_lines
from octocli.dashboard.render import PANELS, View, plain, render
from octocli.terminal import Terminal
from octocli.values import cell_width

from .conftest import node_status

WIDTHS = [40, 80, 120, 200]
SERVERS = ("tcp://h1:1234", "tcp://h2:1234")
PRIMARY = node_status(node_type="primary", bind=["tcp://127.0.0.1:41234"], nodes=12, user_id=1, node_id=1)
STATES = [
    node_status(),
    PRIMARY,
    node_status(state="offline", connected=False, server=None, last_error="h1:1234: connection refused"),
    node_status(state="downloading", snapshot={"rows": 410, "rows_total": 1000, "bytes": 9}, db_is_ready=False),
    node_status(node_id=0, user_id=0, state="unauthorized", auth={"required": True}, log=None, transactions=None),
    node_status(state="revoked"),
    {},
]


def drawn(status, width, **view):
    history = History()
    history.observe(status, 100.0, "12:04:18")
    lines = render(status, history, View(width=width, **view), name="app.db", connect=SERVERS, now_s=7900.0)
    return plain(lines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("view", [{}, {"unicode": False}, {"help": True}, {"panel": "servers"}, {"panel": "events"}])
def test_no_line_is_wider_than_the_screen(status, width, view):
    text = drawn(status, width, **view)
    assert all(cell_width(line) <= width for line in text.splitlines())
    assert "app.db" in text
    if view.get("unicode") is False:
        assert text.isascii()


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_that_matters_is_there_at_every_width(width):
    text = drawn(node_status(transactions={"last_nonce": 9, "pending": 3, "rejected": 1}), width)
    for part in (
        "node 7",
        "user 3",
        "● in sync",
        "queue 3",
        "18,412 of 18,412",
        "✗ rejected 1",
        "h1:1234",
        "h2:1234",
    ):
        assert part in text, part
    assert "watched 2h10m" in text


def test_at_80_columns_it_looks_like_this():
    assert drawn(node_status(), 80).splitlines() == [
        "app.db   node 7 · user 3 · secondary   ● in sync   watched 2h10m",
        "↑ queue 0   ↓ applied 18,412 of 18,412   ✗ rejected 0   last contact 0.2 s",
        "↑ tx/s            0.0   ↓ tx/s            0.0   (max 0.0)",
        "SERVER    STATE       RTT     LAST CONTACT",
        "h1:1234   connected   0.4ms   0.2 s",
        "h2:1234   standby     -",
        "── events " + "─" * 70,
        "12:04:18  in sync",
        "q quit  p pause  r reconnect  Tab panels  ? help",
    ]


def test_a_primary_shows_devices_and_addresses():
    text = drawn(PRIMARY, 80)
    assert "devices 12" in text
    assert "127.0.0.1:41234" in text
    assert "● serving" in text
    assert "SERVER" not in text


def test_a_download_has_a_bar():
    assert "41 %, 410 of 1,000 rows" in drawn(STATES[3], 80)


def test_the_servers_own_report_is_preferred():
    servers = [
        {
            "server": "tcp://h9:1",
            "state": "backing off",
            "rtt_ms": None,
            "last_contact_s": 18,
            "error": "refused",
        }
    ]
    text = drawn(node_status(servers=servers), 80, panel="servers")
    assert "h9:1" in text
    assert "18 s refused" in text
    assert "h2:1234" not in text


def test_panels_and_help():
    assert "queue" not in drawn(node_status(), 80, panel="events")
    assert "events" not in drawn(node_status(), 80, panel="servers")
    assert "reconnect: drop" in drawn(node_status(), 80, help=True)
    assert PANELS[0] == "all"


def test_the_last_events_fill_the_height():
    history = History()
    for second in range(EVENTS_MAX * 2):
        history.observe(node_status(state="offline" if second % 2 else "in sync"), float(second), f"t{second}")
    assert len(history.events) == EVENTS_MAX
    lines = render(node_status(), history, View(width=80, height=20), name="app.db", now_s=0)
    assert len(lines) == 20
    assert f"t{EVENTS_MAX * 2 - 1}" in plain(lines)


def test_rates_come_from_counters():
    history = History()
    for second in range(5):
        transactions = {"last_nonce": 10 * second, "pending": 0}
        log = {"applied": 100 * second, "head": 400}
        history.observe(node_status(transactions=transactions, log=log), float(second), "")
    assert history.rates.up == (10, 10, 10, 10)
    assert history.rates.down == (100, 100, 100, 100)
    assert history.rates.highest == 100


def test_a_gap_is_that_many_seconds_at_the_mean_rate():
    history = History()
    for second, nonce in ((0, 0), (10, 50)):
        history.observe(node_status(transactions={"last_nonce": nonce, "pending": 0}), float(second), "")
    assert history.rates.up == (5.0,) * 10


def test_events_are_differences():
    history = History()
    history.observe(node_status(), 0.0, "a")
    history.observe(node_status(), 1.0, "b")
    history.observe(node_status(state="offline", connected=False, last_error="h1: refused"), 2.0, "c")
    history.observe(node_status(transactions={"rejected": 2}), 3.0, "d")
    assert [(event.clock, event.text.split(":")[0]) for event in history.events] == [
        ("a", "in sync"),
        ("c", "offline (h1"),
        ("c", "h1"),
        ("d", "in sync (h1"),
        ("d", "2 rejected"),
    ]


def test_devices_that_come_and_go_are_events_and_a_restart_alone_is_none():
    history = History()
    for number, nodes in enumerate((None, 0, 2, None, 0)):
        history.observe(node_status(node_type="primary", nodes=nodes), float(number), "")
    assert [event.text for event in history.events if "connected" in event.text] == ["2 connected (was 0)"]


class Looks:
    """A source that shows statuses one after the other, the last for ever."""

    def __init__(self, *statuses):
        self.statuses = itertools.chain(statuses, itertools.repeat(statuses[-1]))

    def read(self):
        return next(self.statuses)


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_screen_one_line_for_each_change(as_json, capsys):
    import sys

    looks = Looks(node_status(), node_status(rtt_ms=9.0), node_status(state="offline"), node_status(user_id=4))
    watch_lines(looks, "app.db", Terminal(), sys.stdout, as_json=as_json, interval_s=0, count=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    if as_json:
        assert [json.loads(line)["v"] for line in lines] == [1, 1, 1]
        assert [json.loads(line)["user_id"] for line in lines] == [3, 3, 4]
    else:
        assert "app.db offline" in lines[1]


def test_a_heartbeat_is_no_change():
    assert changed_part(node_status(rtt_ms=1.0, last_contact_s=5)) == changed_part(node_status())
    assert changed_part(node_status(state="offline")) != changed_part(node_status())


def test_json_lines_carry_a_version():
    assert json.loads(json_line({"state": "in sync"})) == {"v": 1, "state": "in sync"}
