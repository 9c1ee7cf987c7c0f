"""Asking the application who may join: the callbacks of contract.md §4, on the node's callback thread.

Turns what a callback returns into a ``Decision``; holds no rules of its own.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from octodb.model.admissions import DENIED, FAILED, LATER
from octodb.model.identities import Role
from octodb.runtime.events import EventThread
from octodb.sync.effects import AskAuthorizer
from octodb.sync.primary import Decision

__all__ = ["CALLBACK_NAMES", "CallbackAuthorizer"]

CALLBACK_NAMES: Final = frozenset(
    {"user_signup", "user_login", "new_node", "sync_notification", "transaction_notification"}
)

_Answer = Callable[[Decision], None]
_WAITING_MAX: Final = 10_000
_WORDS: Final = {"async": LATER, "unauthorized": DENIED}  # the original's documentation names them for new_node
_USER_ID_MAX: Final = 0x7FFFFFFFFFFFFFFF  # what SQLite can store


class CallbackAuthorizer:
    """Calls the registered functions. ``answer`` is called on the callback thread with each decision, or on the thread
    that completes the Future which a function returned."""

    def __init__(self, thread: EventThread) -> None:
        self._thread = thread
        self._functions: dict[str, Callable[..., Any]] = {}
        self._lock = threading.Lock()
        self._waiting: list[tuple[AskAuthorizer, _Answer]] = []  # asked before there was a function

    def register(self, name: str, function: Callable[..., Any] | None) -> None:
        """Set or remove a callback. Requests that came before it are asked now: a primary listens before its program
        has registered everything."""
        with self._lock:
            if function is None:
                self._functions.pop(name, None)
                return
            self._functions[name] = function
            ready = [one for one in self._waiting if one[0].action == name]
            self._waiting = [one for one in self._waiting if one[0].action != name]
        for request, answer in ready:
            self.ask(request, answer)

    def give_up(self, request: AskAuthorizer) -> None:
        """Answer a sign-in that still waits for a function: there is none. A new node goes on waiting."""
        with self._lock:
            found = [one for one in self._waiting if one[0] is request and request.action != "new_node"]
            self._waiting = [one for one in self._waiting if one not in found]
        what = "sign up" if request.action == "user_signup" else "log in"
        for _, answer in found:
            answer(Decision("error", reason=f"this primary has no way to {what} users"))

    def take_waiting(self) -> list[tuple[AskAuthorizer, _Answer]]:
        """Requests for which there was no function yet: an authorization service is asked now."""
        with self._lock:
            found, self._waiting = self._waiting, []
        return found

    def get(self, name: str) -> Callable[..., Any] | None:
        return self._functions.get(name)

    def ask(self, request: AskAuthorizer, answer: _Answer) -> None:
        """Call the function for ``request``, now or once there is one."""
        with self._lock:
            function = self._functions.get(request.action)
            if function is None:
                self._waiting = [*self._waiting[-_WAITING_MAX:], (request, answer)]
                return
        arguments = (request.node_info,) if request.action == "new_node" else (request.data, request.node_info)

        def work() -> None:
            try:
                result = function(*arguments)
            except Exception as error:
                answer(Decision("error", reason="the authorization logic failed; try again later"))
                if request.action == "new_node":
                    raise
                _tell_without_secrets(request.action, error)
                return
            if isinstance(result, Future):
                result.add_done_callback(lambda done: answer(_late_decision(request.action, done)))
            else:
                answer(_decision(request.action, result))

        self._thread.submit(work)


def _tell_without_secrets(action: str, error: Exception) -> None:
    """Where a function failed. What an exception says may hold a password: parsers quote what they read."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    print(  # noqa: T201 - where the errors of all callbacks are told
        f"octodb: error in {action} (its message is left out: it may hold what was sent):\n"
        f"{frames}{type(error).__module__}.{type(error).__qualname__}",
        file=sys.stderr,
        flush=True,
    )


def _late_decision(action: str, done: Future[Any]) -> Decision:
    """Of a function that returned a Future, so as not to hold up the callback thread."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, Exception):
        _tell_without_secrets(action, error)
    return _decision(action, None if error is not None or done.cancelled() else done.result())


def _decision(action: str, result: object) -> Decision:
    """contract.md §4: > 0 this user, 0 a new one, -1 no, -2 later, -3 error; new_node answers with a role.

    A function may give a reason for the user to read beside its number: ``(-1, "wrong password")``.
    """
    reason, explained = "not authorized", False
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
        (result, reason), explained = result, True
    if isinstance(result, str) and action == "new_node" and result in set(Role):
        return Decision("node", node_type=Role(result))
    if isinstance(result, str) and action == "new_node":
        result = _WORDS.get(result, result)
    if isinstance(result, int) and not isinstance(result, bool):
        if result == DENIED:
            return Decision("denied", reason=reason)
        if result == LATER:
            return Decision("later")
        if result == FAILED and explained:
            return Decision("error", reason=reason)
        if 0 <= result <= _USER_ID_MAX and action != "new_node":
            return Decision("user", user_id=result)
    return Decision("error", reason="the authorization logic failed; try again later")
