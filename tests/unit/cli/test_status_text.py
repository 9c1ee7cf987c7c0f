"""Words for a status: one look, the prompt, the toolbar."""

import pytest

from octocli.shell.prompt import continuation_text, prompt_text, toolbar_text
from octocli.status_text import age_text, mark_of, one_line, state_text, status_lines
from octocli.terminal import Terminal

from .conftest import node_status

TERMINAL = Terminal()
ASCII = Terminal(unicode=False)
UNSIGNED = node_status(node_id=0, user_id=0, state="unauthorized", auth={"required": True})
OFFLINE = node_status(state="offline", connected=False)


@pytest.mark.parametrize(
    ("status", "mark", "word"),
    [
        (node_status(), "in sync", "in sync"),
        (node_status(state="downloading"), "syncing", "downloading"),
        (OFFLINE, "offline", "offline"),
        (UNSIGNED, "attention", "sign-in needed"),
        (node_status(state="revoked"), "attention", "revoked"),
        (node_status(node_type="primary", bind=["tcp://h:1"]), "in sync", "serving"),
        ({}, "offline", "unknown"),
    ],
)
def test_marks_and_words(status, mark, word):
    assert mark_of(status) == mark
    assert state_text(status) == word


def test_the_prompt():
    assert prompt_text("app.db", node_status(), False, TERMINAL) == "app.db●› "  # noqa: RUF001
    assert prompt_text("app.db", OFFLINE, True, TERMINAL) == "app.db○*› "  # noqa: RUF001
    assert prompt_text("app.db", UNSIGNED, False, TERMINAL) == "app.db!› "  # noqa: RUF001
    assert prompt_text("app.db", None, False, TERMINAL) == "app.db› "  # noqa: RUF001
    assert prompt_text("app.db", node_status(transactions={"rejected": 1}), False, TERMINAL).startswith("app.db✗")
    assert prompt_text("app.db", node_status(), False, ASCII) == "app.db=> "


def test_the_continuation_prompt_is_as_wide_and_shows_what_is_open():
    assert continuation_text("(", 8) == "     (> "
    assert continuation_text("", 8) == "      > "
    assert len(continuation_text("/*", 2)) == 2


def test_the_toolbar():
    status = node_status(transactions={"pending": 2, "rejected": 1}, log={"applied": 5, "head": 9})
    assert toolbar_text(status, TERMINAL) == "● in sync h1:1234 0.4ms · ↑2 ↓4 · ✗1 rejected · user 3"
    assert toolbar_text(status, ASCII).isascii()
    assert toolbar_text(OFFLINE, TERMINAL) == "○ offline · ↑0 ↓0 · user 3"
    primary = node_status(node_type="primary", bind=["tcp://h:1"], nodes=2)
    assert toolbar_text(primary, TERMINAL) == "● serving h:1 · 2 devices"
    assert toolbar_text({}, TERMINAL)


def test_one_look():
    assert status_lines(node_status(), "app.db", TERMINAL) == [
        "app.db   node 7 · user 3 · secondary   ● in sync",
        "  server        h1:1234 (0.4 ms)",
        "  queue         0 to send",
        "  rejected      0",
        "  applied       18,412 of 18,412",
        "  last contact  0.2 s ago",
        "  checksum      equal",
        "  engine        process 1, 0.0 s ago",
    ]


def test_one_look_at_a_file_nobody_syncs():
    lines = status_lines(node_status(engine=None, state="offline", last_error="refused"), "app.db", TERMINAL)
    assert "  engine        no process is syncing this file now" in lines
    assert "  last error    refused" in lines


def test_one_line():
    assert one_line(node_status(), "app.db", ["12:00:00"]) == (
        "12:00:00 app.db in sync queue=0 applied=18412/18,412 rejected=0"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0.21, "0.2 s"), (18, "18 s"), (300, "5 min"), (7900, "2h11m"), (200000, "2d7h")],
)
def test_ages(seconds, text):
    assert age_text(seconds) == text


@pytest.mark.parametrize(("connected", "word"), [(True, "connected"), (False, "NOT REACHED")])
def test_the_authorization_service_of_a_primary(connected, word):
    service = {"service": "tcp://h:4321", "connected": connected, "waiting": 1200, "last_error": None}
    status = node_status(node_type="primary", bind=["tcp://h:1"], nodes=2, authorizer=service)
    assert f"  authorizer    h:4321, {word}, 1,200 waiting" in status_lines(status, "primary.db", TERMINAL)
