"""A home of its own for every test, and a node that exists in memory only."""

import json
import re

import pytest


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """History and the last database go to the test's folder; nothing is inherited from the person."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("OCTODB_URI", "OCTODB_LOGIN_DATA_FILE", "NO_COLOR", "FORCE_COLOR", "OCTODB_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def node_status(**changes):
    """A device in sync, as sync_status tells it, with ``changes``."""
    status = {
        "node_id": 7,
        "user_id": 3,
        "node_type": "secondary",
        "public_key": "abc",
        "db_is_ready": True,
        "state": "in sync",
        "connected": True,
        "server": "tcp://h1:1234",
        "rtt_ms": 0.4,
        "auth": {"mode": "user", "required": False, "pending": False, "error": None, "fields": []},
        "transactions": {"last_nonce": 17, "pending": 0, "oldest_pending_s": None, "rejected": 0},
        "log": {"epoch": "e", "applied": 18412, "head": 18412},
        "snapshot": None,
        "bytes": {"in": 1, "out": 2},
        "bind": None,
        "last_contact_s": 0.2,
        "checksum_ok": True,
        "engine": {"pid": 1, "age_s": 0.0},
        "last_error": None,
    }
    return {**status, **changes}


class MemoryNode:
    """A device that is not signed in. ``accounts`` maps e-mails to passwords; answers come at once."""

    def __init__(self, accounts=None, *, reachable=True, answers=True):
        self.accounts = dict(accounts or {})
        self.sent = []
        self.answers = answers
        self.listeners = []
        form = [{"name": "email"}, {"name": "password", "secret": True}]
        self.status = node_status(
            node_id=0,
            user_id=0,
            db_is_ready=False,
            state="unauthorized" if reachable else "offline",
            connected=reachable,
            last_error=None if reachable else "h1:1234: connection refused",
            auth={"mode": "user", "required": reachable, "pending": False, "error": None, "fields": form},
        )

    @property
    def sync_status(self):
        return json.loads(json.dumps(self.status))

    def is_ready(self):
        return self.status["db_is_ready"]

    def on(self, event, fn):
        self.listeners.append((event, fn))

    def execute(self, sql):
        action, text = re.fullmatch(r"PRAGMA user_(login|signup)='(.*)'", sql, re.DOTALL).groups()
        data = json.loads(text.replace("''", "'"))
        self.sent.append((action, data))
        auth = self.status["auth"]
        auth.update(pending=True, error=None)
        if not self.answers:
            return
        auth["pending"] = False
        known = self.accounts.get(data["email"])
        if action == "signup" and known is None:
            self.accounts[data["email"]] = data["password"]
            self.accept()
        elif action == "login" and known is not None and known == data["password"]:
            self.accept()
        else:
            auth["error"] = {"code": "denied", "reason": "wrong e-mail or password"}
        for event, fn in self.listeners:
            if event == "status":
                fn({})

    def accept(self):
        self.status.update(node_id=7, user_id=3, db_is_ready=True, state="in sync")
        self.status["auth"].update(required=False, error=None)


class Answers:
    """Plays the person at the terminal: ``choice``, then values in order; remembers what was asked."""

    def __init__(self, choice, *values):
        self.choice = choice
        self.values = list(values)
        self.asked = []

    def choose(self):
        return self.choice

    def field(self, label, *, secret, confirm):
        self.asked.append((label, secret, confirm))
        return self.values.pop(0)
