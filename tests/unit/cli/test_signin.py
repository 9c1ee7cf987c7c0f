"""Signing in: every way it can go, against a node in memory."""

import pytest

from octocli.database import become_usable
from octocli.failure import Exit, Failure
from octocli.feed import StatusFeed
from octocli.progress import wait_synced
from octocli.signin import sign_in
from octocli.terminal import Terminal

from .conftest import Answers, MemoryNode, node_status

ADA = {"ada@example.org": "right"}
DATA = '{"email": "ada@example.org", "password": "right"}'
PERSON = Terminal(stdin_is_tty=True, stderr_is_tty=True, dumb=True)
SCRIPT = Terminal()


def run(node, terminal=SCRIPT, **more):
    return sign_in(StatusFeed(node), terminal, patience_s=0.3, **more)


def test_a_device_that_is_signed_in_sends_nothing():
    node = MemoryNode()
    node.accept()
    assert run(node)["user_id"] == 3
    assert node.sent == []


def test_data_logs_in_as_given():
    node = MemoryNode(ADA)
    assert run(node, data=DATA)["node_id"] == 7
    assert node.sent == [("login", {"email": "ada@example.org", "password": "right"})]


def test_quotes_in_data_survive():
    node = MemoryNode({"o'hara": "it''s"})
    run(node, data='{"email": "o\'hara", "password": "it\'\'s"}')
    assert node.sent[0][1] == {"email": "o'hara", "password": "it''s"}


def test_refused_data_is_exit_4_and_never_shown():
    with pytest.raises(Failure) as caught:
        run(MemoryNode({"ada@example.org": "other"}), data=DATA)
    assert caught.value.code == Exit.AUTHORIZATION
    assert caught.value.why == "wrong e-mail or password"
    assert "right" not in "\n".join(caught.value.lines())


def test_nobody_to_ask_names_the_options():
    with pytest.raises(Failure) as caught:
        run(MemoryNode())
    assert caught.value.code == Exit.AUTHORIZATION
    assert "--data" in caught.value.fix
    assert "OCTODB_LOGIN_DATA_FILE" in caught.value.fix


def test_no_server_is_exit_5_not_a_wrong_password():
    with pytest.raises(Failure) as caught:
        run(MemoryNode(reachable=False), data=DATA)
    assert caught.value.code == Exit.NETWORK
    assert "connection refused" in caught.value.why


def test_a_server_that_does_not_answer_is_exit_5():
    with pytest.raises(Failure) as caught:
        run(MemoryNode(answers=False), data=DATA)
    assert caught.value.code == Exit.NETWORK
    assert "no answer" in caught.value.what


def test_a_person_signs_up_and_confirms_the_secret(capsys):
    node = MemoryNode()
    answers = Answers("signup", "ada@example.org", "right")
    run(node, PERSON, asker=answers)
    assert answers.asked == [("email", False, False), ("password", True, True)]
    assert node.sent == [("signup", {"email": "ada@example.org", "password": "right"})]
    assert "h1:1234" in capsys.readouterr().err


def test_a_wrong_password_is_asked_for_again_alone():
    node = MemoryNode(ADA)
    answers = Answers("login", "ada@example.org", "wrong", "wrong", "right")
    assert run(node, PERSON, asker=answers)["user_id"] == 3
    assert [label for label, _, _ in answers.asked] == ["email", "password", "password", "password"]
    assert not any(confirm for _, _, confirm in answers.asked)


def test_three_tries_then_exit_4():
    node = MemoryNode(ADA)
    with pytest.raises(Failure) as caught:
        run(node, PERSON, asker=Answers("login", "ada@example.org", "1", "2", "3", "right"))
    assert caught.value.code == Exit.AUTHORIZATION
    assert len(node.sent) == 3


def test_a_taken_name_at_signup_is_asked_for_again():
    node = MemoryNode(ADA)
    answers = Answers("signup", "ada@example.org", "x", "ben@example.org", "y")
    run(node, PERSON, asker=answers)
    assert node.sent[-1] == ("signup", {"email": "ben@example.org", "password": "y"})


def test_quitting_is_exit_4():
    with pytest.raises(Failure) as caught:
        run(MemoryNode(), PERSON, asker=Answers(None))
    assert caught.value.code == Exit.AUTHORIZATION


def test_the_questions_are_the_servers():
    node = MemoryNode()
    node.status["auth"]["fields"] = [
        {"name": "email"},
        {"name": "password", "secret": True},
        {"name": "code"},
    ]
    answers = Answers("signup", "a", "b", "c")
    run(node, PERSON, asker=answers)
    assert [label for label, _, _ in answers.asked] == ["email", "password", "code"]


def test_a_node_that_was_refused_is_told_why():
    node = MemoryNode()
    denied = {"code": "denied", "reason": "not one of ours"}
    node.status.update(auth={"mode": "node", "required": False, "pending": False, "error": denied})
    with pytest.raises(Failure) as caught:
        run(node)
    assert (caught.value.code, caught.value.why) == (Exit.AUTHORIZATION, "not one of ours")


def test_a_revoked_device_is_told_so():
    node = MemoryNode()
    node.status.update(state="revoked")
    node.status["auth"]["required"] = False
    with pytest.raises(Failure) as caught:
        run(node, data=DATA)
    assert caught.value.code == Exit.AUTHORIZATION
    assert "revoked" in caught.value.what


def test_an_offline_device_that_was_ready_is_used_without_waiting():
    node = MemoryNode(reachable=False)
    node.status.update(node_id=7, db_is_ready=True)
    become_usable(StatusFeed(node), SCRIPT, patience_s=0.3)


def test_waiting_for_synced_fails_offline_with_exit_5():
    node = MemoryNode(reachable=False)
    node.status.update(node_id=7, db_is_ready=True)
    with pytest.raises(Failure) as caught:
        become_usable(StatusFeed(node), SCRIPT, wait="synced", patience_s=0.3)
    assert caught.value.code == Exit.NETWORK


def test_waiting_for_synced_ends_at_once_where_somebody_must_sign_in():
    with pytest.raises(Failure) as caught:
        wait_synced(StatusFeed(MemoryNode()), SCRIPT, patience_s=None)
    assert caught.value.code == Exit.AUTHORIZATION


def test_a_connection_lost_while_the_answer_is_awaited_is_told(capsys):
    node = MemoryNode(answers=False)
    execute = node.execute

    def lose(sql):
        execute(sql)
        node.status.update(connected=False, state="offline", last_error="h1:1234: connection refused")

    node.execute = lose
    with pytest.raises(Failure) as caught:
        run(node, data=DATA)
    assert caught.value.code == Exit.NETWORK
    assert "not connected: h1:1234: connection refused" in capsys.readouterr().err


def test_wait_none_asks_nothing():
    become_usable(StatusFeed(MemoryNode()), SCRIPT, wait="none", patience_s=0.3)


def test_a_download_that_moves_is_waited_for():
    """Patience counts seconds without progress, not seconds."""
    node = MemoryNode()
    node.status.update(node_id=7, state="downloading", snapshot={"rows": 0, "rows_total": 4, "bytes": 1})
    looks = []

    class Downloading(MemoryNode):
        @property
        def sync_status(self):
            looks.append(1)
            node.status["snapshot"]["rows"] = len(looks)
            node.status["db_is_ready"] = len(looks) > 8
            return dict(node.status, snapshot=dict(node.status["snapshot"]))

        def is_ready(self):
            return node.status["db_is_ready"]

    become_usable(StatusFeed(Downloading()), SCRIPT, patience_s=0.3)
    assert len(looks) > 8


def test_status_events_wake_the_wait():
    node = MemoryNode()
    feed = StatusFeed(node)
    assert {event for event, _ in node.listeners} >= {"status", "ready"}
    node.status = node_status()
    assert feed.wait(lambda status: status["db_is_ready"], patience_s=0)["node_id"] == 7
