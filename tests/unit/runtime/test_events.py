"""Callbacks of an application: in order, on one thread, and their errors are theirs."""

import queue
import threading

import pytest

from octodb.errors import ProgrammingError
from octodb.model.identities import Role
from octodb.runtime.authorizer import CallbackAuthorizer
from octodb.runtime.events import EventThread
from octodb.sync.effects import AskAuthorizer
from octodb.sync.primary import Decision

WAIT_S = 10


@pytest.fixture
def thread():
    events = EventThread("test-events")
    yield events
    events.close()


def test_callbacks_come_in_order_on_a_thread_of_their_own(thread):
    seen = queue.Queue()
    thread.on("sync", lambda info: seen.put((info["n"], threading.current_thread().name, thread.is_current_thread())))
    for n in range(3):
        thread.emit("sync", {"n": n})
    assert [seen.get(timeout=WAIT_S) for _ in range(3)] == [(n, "test-events", True) for n in range(3)]
    assert not thread.is_current_thread()


def test_every_callback_of_an_event_is_called_and_no_other(thread):
    seen = queue.Queue()
    thread.on("sync", lambda info: seen.put("one"))
    thread.on("sync", lambda info: seen.put("two"))
    thread.on("error", lambda info: seen.put("error"))
    thread.emit("sync", {})
    thread.emit("ready", {})
    thread.emit("error", {})
    assert [seen.get(timeout=WAIT_S) for _ in range(3)] == ["one", "two", "error"]


def test_verdicts_that_came_before_are_told_to_the_first_that_asks(thread):
    seen = queue.Queue()
    for event in ("verdict", "rejected", "sync"):
        thread.emit(event, {"event": event})
    thread.on("rejected", seen.put)
    thread.on("rejected", lambda info: seen.put("second"))
    thread.on("sync", seen.put)
    thread.on("verdict", seen.put)
    thread.emit("rejected", {"event": "later"})
    found = [seen.get(timeout=WAIT_S) for _ in range(4)]
    assert found == [{"event": "rejected"}, {"event": "verdict"}, {"event": "later"}, "second"]
    assert seen.empty()


def test_what_nobody_asks_for_does_not_grow_without_end(thread):
    seen = queue.Queue()
    for n in range(10_005):
        thread.emit("verdict", {"n": n})
    thread.on("verdict", seen.put)
    found = [seen.get(timeout=WAIT_S)["n"] for _ in range(10_000)]
    assert found == list(range(5, 10_005))


def test_an_unknown_event_is_named_with_the_known_ones(thread):
    with pytest.raises(ProgrammingError, match="no event 'sink'") as caught:
        thread.on("sink", print)
    assert "sync" in caught.value.hint


def test_an_error_in_a_callback_is_shown_and_the_next_one_runs(thread, capsys):
    seen = queue.Queue()
    thread.on("sync", lambda info: 1 / 0)
    thread.on("sync", lambda info: seen.put("next"))
    thread.emit("sync", {})
    assert seen.get(timeout=WAIT_S) == "next"
    shown = capsys.readouterr().err
    assert "octodb: error in a callback:" in shown
    assert "ZeroDivisionError" in shown


def test_a_callback_may_close_the_node(thread):
    closed = queue.Queue()

    def close(info):
        thread.close()
        closed.put(True)

    thread.on("sync", close)
    thread.emit("sync", {})
    assert closed.get(timeout=WAIT_S)


def test_closing_waits_for_what_was_queued(thread):
    seen = []
    thread.on("sync", lambda info: seen.append(info["n"]))
    for n in range(100):
        thread.emit("sync", {"n": n})
    thread.close()
    assert seen == list(range(100))


# --- authorization callbacks -----------------------------------------------------------------------------


@pytest.fixture
def ask(thread):
    authorizer = CallbackAuthorizer(thread)

    def ask(action, function, *, register=True):
        if register:
            authorizer.register(action, function)
        answers = queue.Queue()
        authorizer.ask(AskAuthorizer(action, "data", b"key", '{"hostname":"x"}'), answers.put)
        return answers

    ask.authorizer = authorizer
    return ask


ERROR = "error"


@pytest.mark.parametrize(
    ("result", "kind", "user_id"),
    [
        (7, "user", 7),
        (0, "user", 0),
        (-1, "denied", 0),
        (-2, "later", 0),
        (-3, ERROR, 0),
        (-4, ERROR, 0),
        (None, ERROR, 0),
        (True, ERROR, 0),
        ("7", ERROR, 0),
        (1.0, ERROR, 0),
        ("primary", ERROR, 0),
        ((7, 8), ERROR, 0),
    ],
)
@pytest.mark.parametrize("action", ["user_signup", "user_login"])
def test_what_a_sign_in_function_may_answer(ask, action, result, kind, user_id):
    decision = ask(action, lambda data, node_info: result).get(timeout=WAIT_S)
    assert (decision.kind, decision.user_id) == (kind, user_id)


@pytest.mark.parametrize(
    ("result", "kind", "role"),
    [
        ("secondary", "node", Role.SECONDARY),
        ("primary", "node", Role.PRIMARY),
        (-1, "denied", Role.SECONDARY),
        (-2, "later", Role.SECONDARY),
        (-3, ERROR, Role.SECONDARY),
        (5, ERROR, Role.SECONDARY),
        (True, ERROR, Role.SECONDARY),
        (None, ERROR, Role.SECONDARY),
        ("unauthorized", "denied", Role.SECONDARY),
        ("async", "later", Role.SECONDARY),
        ("tertiary", ERROR, Role.SECONDARY),
    ],
)
def test_what_new_node_may_answer(ask, result, kind, role):
    decision = ask("new_node", lambda node_info: result).get(timeout=WAIT_S)
    assert (decision.kind, decision.node_type) == (kind, role)


def test_a_reason_is_passed_on(ask):
    decision = ask("user_login", lambda data, info: (-1, "wrong password")).get(timeout=WAIT_S)
    assert decision == Decision("denied", reason="wrong password")


def test_a_function_gets_the_text_as_it_was_sent(ask):
    seen = []
    ask("user_login", lambda *arguments: seen.append(arguments) or 1).get(timeout=WAIT_S)
    ask("new_node", lambda *arguments: seen.append(arguments) or -1).get(timeout=WAIT_S)
    assert seen == [("data", '{"hostname":"x"}'), ('{"hostname":"x"}',)]


def test_a_function_that_fails_is_an_error_to_try_again_and_shown_here(ask, thread, capsys):
    assert ask("user_login", lambda data, info: 1 / 0).get(timeout=WAIT_S).kind == "error"
    thread.close()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_request_waits_for_its_function(ask):
    answers = ask("user_login", None, register=False)
    ask.authorizer.register("user_signup", lambda data, info: 1)
    assert answers.empty()
    ask.authorizer.register("user_login", lambda data, info: 9)
    assert answers.get(timeout=WAIT_S).user_id == 9


def test_a_sign_in_that_nobody_can_answer_is_given_up_but_a_new_node_is_not(ask):
    answers = queue.Queue()
    for action in ("user_login", "new_node"):
        request = AskAuthorizer(action, "data", b"key", "{}")
        ask.authorizer.ask(request, answers.put)
        ask.authorizer.give_up(request)
    decision = answers.get(timeout=WAIT_S)
    assert (decision.kind, decision.reason) == ("error", "this primary has no way to log in users")
    ask.authorizer.register("new_node", lambda info: "secondary")
    assert answers.get(timeout=WAIT_S).kind == "node"
