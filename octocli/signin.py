"""Signing a device in: what is asked, what is sent, how often, and how each outcome ends.

Sends through ``PRAGMA user_login`` and ``PRAGMA user_signup`` only. Secrets are never printed, logged or
put into an exception.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, Protocol

from octocli.failure import Exit, Failure
from octocli.feed import Status, StatusFeed
from octocli.issuer import issuer_of, token_of_issuer
from octocli.progress import WaitDisplay, is_revoked, revoked, unreachable
from octocli.terminal import Terminal

__all__ = ["Action", "Asker", "ClickAsker", "is_signed_in", "sign_in"]

Action = Literal["login", "signup"]
TRIES_MAX: Final = 3
DEFAULT_FIELDS: Final = ({"name": "email"}, {"name": "password", "secret": True})


class Asker(Protocol):
    """Asks a person. Raises click.Abort at Ctrl-C."""

    def choose(self) -> Action | None:
        """Log in, sign up, or None to quit."""

    def field(self, label: str, *, secret: bool, confirm: bool) -> str:
        """One value; a secret is not shown, and asked twice with ``confirm``."""


class ClickAsker:
    """Questions on stderr, answers from the terminal."""

    def choose(self) -> Action | None:
        import click

        click.echo("  [1] log in   [2] sign up   [q] quit", err=True)
        answers = click.Choice(["1", "2", "q"])
        answer = click.prompt("", type=answers, show_choices=False, err=True, prompt_suffix="> ")
        actions: dict[str, Action | None] = {"1": "login", "2": "signup", "q": None}
        return actions[answer]

    def field(self, label: str, *, secret: bool, confirm: bool) -> str:
        import click

        value: str = click.prompt(
            label, hide_input=secret, confirmation_prompt=f"{label} again" if confirm else False, err=True
        )
        return value


def _verdict(status: Status) -> Literal["accepted", "denied", None]:
    """What became of the request that was sent last: sending one clears the refusal of the one before."""
    if is_signed_in(status):
        return "accepted"
    auth = status.get("auth") or {}
    return "denied" if auth.get("error") is not None and not auth.get("pending") else None


def is_signed_in(status: Status) -> bool:
    return bool(status.get("node_id")) or bool(status.get("db_is_ready"))


def sign_in(
    feed: StatusFeed,
    terminal: Terminal,
    *,
    action: Action | None = None,
    data: str | None = None,
    asker: Asker | None = None,
    patience_s: float | None = None,
) -> Status:
    """Make sure this device is signed in, and return its status.

    ``data`` (one JSON object as text) is sent as it is; without it a person is asked where there is a
    terminal. ``action`` None asks which, or logs in with ``data``. Raises Failure: exit 4 refused or
    nobody to ask, exit 5 no primary answered.
    """
    status = _until_known(feed, terminal, patience_s)
    if is_signed_in(status):
        return status
    if data is not None:
        return _send_once(feed, terminal, action or "login", data, patience_s)
    if asker is None:
        if not terminal.can_ask:
            raise _nobody_to_ask()
        asker = ClickAsker()
    return _ask_and_send(feed, terminal, asker, action, patience_s)


def _until_known(feed: StatusFeed, terminal: Terminal, patience_s: float | None) -> Status:
    """Wait until the node is signed in or a primary says that signing in is needed."""

    def known(status: Status) -> bool:
        auth = status.get("auth") or {}
        return is_signed_in(status) or bool(auth.get("required")) or is_revoked(status) or _node_was_refused(status)

    with WaitDisplay(terminal) as display:
        status = feed.wait(known, patience_s=patience_s, seen=display.show)
    if status is None:
        raise unreachable(feed.now())
    if is_revoked(status):
        raise revoked()
    if _node_was_refused(status):
        raise Failure(
            "this device was refused",
            why=str(status["auth"]["error"].get("reason")),
            fix="ask the administrator",
            code=Exit.AUTHORIZATION,
        )
    return status


def _node_was_refused(status: Status) -> bool:
    """Where devices are let in without signing in (auth=node). After an error the primary asks again by itself."""
    auth = status.get("auth") or {}
    denied = (auth.get("error") or {}).get("code") == "denied" and not auth.get("pending")
    return bool(denied and auth.get("mode") == "node" and not is_signed_in(status))


def _send_once(feed: StatusFeed, terminal: Terminal, action: Action, data: str, patience_s: float | None) -> Status:
    status, reason = _send(feed, terminal, action, data, patience_s)
    if status is None:
        raise _denied(action, reason)
    return status


def _ask_and_send(
    feed: StatusFeed, terminal: Terminal, asker: Asker, action: Action | None, patience_s: float | None
) -> Status:
    status = feed.now()
    terminal.say(f"{_server(status)} asks who you are")
    about = issuer_of(status)
    if about is not None:
        return _sign_in_with_token(feed, terminal, asker, about, patience_s)
    if action is None:
        action = asker.choose()
        if action is None:
            raise Failure("not signed in", fix="run the command again", code=Exit.AUTHORIZATION)
    fields = (status.get("auth") or {}).get("fields") or list(DEFAULT_FIELDS)
    values: dict[str, str] = {}
    reason = ""
    for _ in range(TRIES_MAX):
        _fill(values, fields, asker, confirm=action == "signup")
        signed_in, reason = _send(feed, terminal, action, json.dumps(values), patience_s)
        if signed_in is not None:
            return signed_in
        terminal.complain(f"refused: {reason}")
        if action == "signup":
            values.clear()  # a name already taken must be asked for again, too
    raise _denied(action, f"{reason} ({TRIES_MAX} tries)")


def _sign_in_with_token(
    feed: StatusFeed, terminal: Terminal, asker: Asker, about: dict[str, Any], patience_s: float | None
) -> Status:
    """With a token of the issuer that the primary names: from there, or from the person."""
    token = token_of_issuer(terminal, about, _server(feed.now()))
    if token is None:
        token = asker.field(f"ID token of {about['issuer']}", secret=True, confirm=False)
    return _send_once(feed, terminal, "login", json.dumps({"token": token}), patience_s)


def _fill(values: dict[str, str], fields: list[dict[str, Any]], asker: Asker, *, confirm: bool) -> None:
    """Ask for what is missing; secrets always, since the last one may be what was wrong."""
    for form_field in fields:
        name = str(form_field["name"])
        secret = bool(form_field.get("secret"))
        if secret or name not in values:
            label = "".join(one for one in str(form_field.get("label") or name) if one.isprintable())
            values[name] = asker.field(label, secret=secret, confirm=secret and confirm)


def _send(
    feed: StatusFeed, terminal: Terminal, action: Action, data: str, patience_s: float | None
) -> tuple[Status | None, str]:
    """Send one request: (status, '') when accepted, (None, reason) when refused."""
    quoted = data.replace("'", "''")
    feed.node.execute(f"PRAGMA user_{action}='{quoted}'")
    said = False

    def seen(status: Status) -> None:
        nonlocal said
        display.show(status)
        if (status.get("auth") or {}).get("pending") and not said:
            said = True
            terminal.say("waiting for the answer…")

    with WaitDisplay(terminal) as display:
        status = feed.wait(lambda status: _verdict(status) is not None, patience_s=patience_s, seen=seen)
    if status is None:
        now = feed.now()
        if now.get("connected"):
            raise Failure(
                "no answer to the sign-in",
                why="the request was sent; the primary has not decided yet",
                fix="run the command again later, or ask the administrator",
                code=Exit.NETWORK,
            )
        raise unreachable(now)
    if _verdict(status) == "accepted":
        return status, ""
    error = (status.get("auth") or {}).get("error") or {}
    return None, str(error.get("reason") or error.get("code") or "not authorized")


def _denied(action: Action, reason: str) -> Failure:
    other = "octodb login, if there is an account"
    if action == "login":
        other = "octodb signup, if there is no account yet"
    return Failure(
        f"the {'login' if action == 'login' else 'sign-up'} was refused",
        why=reason,
        fix=f"check what was sent; {other}",
        code=Exit.AUTHORIZATION,
    )


def _nobody_to_ask() -> Failure:
    return Failure(
        "this device is not signed in",
        why="there is no terminal to ask at, and no --data",
        fix="octodb login --data @FILE (or signup), or set OCTODB_LOGIN_DATA_FILE",
        code=Exit.AUTHORIZATION,
    )


def _server(status: Status) -> str:
    server = status.get("server")
    return str(server).removeprefix("tcp://").removeprefix("tls://") if server else "the primary"
