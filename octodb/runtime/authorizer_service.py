"""Asking an external authorization service who may join (contract.md §7): the primary's side of the connection.

Dials the service, announces this primary as the leader, sends what sessions ask, and has its answers carried out. Runs
on the engine thread; the SQL of an answer goes to a thread of its own. Holds no rules: what an answer means is read in
``wire/service_messages.py`` and done in ``storage/admission.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import apsw

from octodb.errors import Error, NotAuthorizedError, ProtocolError
from octodb.model.admissions import DENIED, LATER, Admission, ServiceAnswer
from octodb.model.identities import NodeRecord
from octodb.model.node_uri import Address
from octodb.runtime.framed_connection import close_inherited
from octodb.runtime.surroundings import Surroundings
from octodb.storage.apsw_errors import explained
from octodb.sync.effects import AskAuthorizer
from octodb.sync.primary import Decision
from octodb.wire.service_messages import LEADER, TextSplitter, framed, read_answer, request_text

__all__ = ["AuthorizerService"]

ANSWER_S_MAX: Final = 30.0  # somebody sits before the screen of a device
# A service that is started anew is back sooner.
_UNREACHABLE_S: Final = 5.0
# A node that waits has nobody who would try again.
_ASK_AGAIN_S: Final = 600.0
_DIAL_S_MAX: Final = 10.0
_FIRST_PAUSE_S: Final = 0.2
_PAUSE_S_MAX: Final = 3.0
_LOOK_EVERY_S: Final = 0.25
# Requests without an answer; each holds at most the 60 kB of a sign-in.
_WAITING_COUNT_MAX: Final = 10_000
_READ_BYTES: Final = 64 * 1024
# A machine that is switched off says no goodbye: seconds of silence, between probes, and how many of them.
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

_Answer = Callable[[Decision], None]


@dataclass(eq=False, slots=True)
class _Waiting:
    """One request. ``sent_at`` None: not sent on this connection; ``later``: answered with -2, so it is kept for the
    real answer without a time limit."""

    request: AskAuthorizer
    answer: _Answer
    asked_at: float
    sent_at: float | None = None
    later: bool = False

    @property
    def is_interactive(self) -> bool:
        return self.request.action != "new_node"


class AuthorizerService:
    """``admit(admission, node_info)`` lets a device in, on the storage thread; ``emit(event, info)`` tells the
    application; ``changed()`` is called when ``status`` has."""

    def __init__(
        self,
        surroundings: Surroundings,
        admit: Callable[[Admission, str], NodeRecord],
        emit: Callable[[str, dict[str, Any]], None],
        changed: Callable[[], None],
    ) -> None:
        self._surroundings = surroundings
        self._admit = admit
        self._emit = emit
        self._changed = changed
        self._storage = surroundings.storage("octodb-admissions")
        self.address: Address | None = None
        self._waiting: dict[bytes, _Waiting] = {}
        self._unsent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._transport: asyncio.BaseTransport | None = None
        self._down_since = self._up_since = 0.0
        self._told_down = False
        self._pauses = 0  # since the connection was good for something
        self._last_error: str | None = None

    # --- life ----------------------------------------------------------------------------------------

    async def set_address(self, address: Address | None) -> list[tuple[AskAuthorizer, _Answer]]:
        """Ask the service at ``address`` from now on, all that has no answer first. None: ask no service; returned is
        what then has to be asked elsewhere."""
        if address == self.address:
            return []
        await self._end_tasks()
        self.address = address
        self._last_error = None
        self._told_down = False
        self._pauses = 0
        self._down_since = self._surroundings.monotonic()
        self._changed()
        if address is None:
            left, self._waiting = list(self._waiting.values()), {}
            return [(one.request, one.answer) for one in left if not one.later]
        self._tasks = [asyncio.create_task(self._stay_connected(address)), asyncio.create_task(self._look())]
        return []

    async def close(self) -> None:
        await self._end_tasks()
        self._storage.close()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Keep out of SQLite until what is returned is called: this process forks."""
        return self._storage.hold(timeout_s)

    def forget_in_child(self) -> None:
        """This is a forked child: close its copy of the socket."""
        inherited = None if self._transport is None else self._transport.get_extra_info("socket")
        if inherited is not None:
            close_inherited(inherited)

    def status(self) -> dict[str, Any] | None:
        """For ``sync_status``; None when no service is asked. From any thread."""
        if self.address is None:
            return None
        return {
            "service": str(self.address),
            "connected": self._transport is not None,
            "waiting": len(self._waiting),
            "last_error": self._last_error,
        }

    # --- requests ------------------------------------------------------------------------------------

    def ask(self, request: AskAuthorizer, answer: _Answer) -> None:
        """Send ``request``, now or when the service can be reached. ``answer`` is called with what it said no to or put
        off; a device that it lets in is found in the file."""
        now = self._surroundings.monotonic()
        before = self._waiting.get(request.public_key)
        if before is not None and self._is_the_same(before, request, now):
            before.request, before.answer = request, answer  # its device came back meanwhile: the service is at it
            return
        if before is None and len(self._waiting) >= _WAITING_COUNT_MAX:
            answer(Decision("error", reason="too many requests wait for the authorization service; try again later"))
            return
        self._waiting.pop(request.public_key, None)
        self._waiting[request.public_key] = _Waiting(request, answer, now)
        self._unsent.set()

    def _is_the_same(self, before: _Waiting, request: AskAuthorizer, now: float) -> bool:
        old = before.request
        just_now = not before.later and now - (before.sent_at or before.asked_at) < ANSWER_S_MAX
        return just_now and (old.action, old.data) == (request.action, request.data)

    def device_left(self, request: AskAuthorizer) -> None:
        """Whoever asked is gone. What it waited for without a time limit is asked again when it comes back."""
        waiting = self._waiting.get(request.public_key)
        if waiting is not None and waiting.request is request and (waiting.later or not waiting.is_interactive):
            del self._waiting[request.public_key]

    def settled(self, public_key: bytes) -> None:
        """Somebody else has decided about the device."""
        self._waiting.pop(public_key, None)

    async def _look(self) -> None:
        """Somebody waits before a screen: say so when there is no answer, so that it can be tried again."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._surroundings.monotonic()
            if self._transport is not None and now - self._up_since >= _UNREACHABLE_S:
                self._works()
            for key, one in list(self._waiting.items()):
                if one.later:
                    continue
                if not one.is_interactive:
                    if one.sent_at is not None and now - one.sent_at >= _ASK_AGAIN_S:
                        one.sent_at = None
                        self._unsent.set()
                    continue
                reason = self._why_no_answer(one, now)
                if reason:
                    del self._waiting[key]
                    one.answer(Decision("error", reason=reason))

    def _why_no_answer(self, one: _Waiting, now: float) -> str:
        age_s = now - one.asked_at
        if self._transport is None and min(age_s, now - self._down_since) >= _UNREACHABLE_S:
            return f"the authorization service {self.address} cannot be reached; try again later"
        if age_s >= ANSWER_S_MAX:
            return f"the authorization service did not answer within {ANSWER_S_MAX:.0f} s; try again"
        return ""

    # --- the connection ------------------------------------------------------------------------------

    async def _stay_connected(self, address: Address) -> None:
        while True:
            try:
                connecting = asyncio.open_connection(address.host, address.port)
                reader, writer = await asyncio.wait_for(connecting, _DIAL_S_MAX)
            except TimeoutError:
                self._is_down(f"no answer from {address} within {_DIAL_S_MAX:.0f} s")
            except (OSError, UnicodeError) as error:  # a name that no server can have is no OSError
                self._is_down(f"{address} cannot be reached: {getattr(error, 'strerror', None) or error}")
            else:
                await self._converse(reader, writer)
            pause_s = min(_PAUSE_S_MAX, _FIRST_PAUSE_S * 2.0**self._pauses)
            self._pauses = min(self._pauses + 1, 16)
            await asyncio.sleep(pause_s * (1 - self._surroundings.jitter() / 2))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection ends."""
        _keep_alive(writer)
        self._transport = writer.transport
        self._up_since = self._surroundings.monotonic()
        self._last_error = None
        self._changed()
        for one in self._waiting.values():
            one.sent_at = None  # whoever had it may have died with it
        writer.write(framed(LEADER))
        self._unsent.set()
        sending = asyncio.create_task(self._send(writer))
        reason = "the service closed the connection"
        try:
            await self._listen(reader)
        except ProtocolError as error:
            reason = f"the service sent what cannot be read: {error}"
        except OSError as error:
            reason = f"the connection was lost: {error.strerror or error}"
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._transport = None
            writer.close()
            self._down_since = self._surroundings.monotonic()
        self._is_down(f"{self.address}: {reason}")

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """What was not sent yet, no faster than the service takes it."""
        with contextlib.suppress(OSError):  # the reader hears of it, too
            while True:
                await self._unsent.wait()
                self._unsent.clear()
                for one in [one for one in self._waiting.values() if one.sent_at is None]:
                    asked = one.request
                    if self._waiting.get(asked.public_key) is not one:
                        continue  # it is settled, or another took its place while the service took what came before
                    text = request_text(asked.action, asked.data, asked.public_key, asked.node_info)
                    one.sent_at = self._surroundings.monotonic()
                    writer.write(framed(text))
                    await writer.drain()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Carry out one answer after the other: a service that sends faster has to wait."""
        splitter = TextSplitter()
        while data := await reader.read(_READ_BYTES):
            for text in splitter.feed(data):
                self._works()
                try:
                    answer = read_answer(text)
                except ProtocolError as error:
                    self._tell(str(error))
                else:
                    await self._carry_out(answer)

    def _works(self) -> None:
        self._pauses = 0
        self._told_down = False

    def _is_down(self, reason: str) -> None:
        """Tell once an outage, whatever is tried meanwhile."""
        if self._told_down:
            self._last_error = reason
        else:
            self._told_down = True
            self._tell(reason)
        self._changed()

    def _tell(self, reason: str) -> None:
        self._last_error = reason
        self._emit("error", {"code": "authorizer", "reason": reason})
        self._changed()

    # --- answers -------------------------------------------------------------------------------------

    async def _carry_out(self, answer: ServiceAnswer) -> None:
        """A device that has gone, or was told that there is no answer, is let in all the same."""
        waiting = self._waiting.get(answer.public_key)
        device = f"device {answer.public_key.hex()}"
        if answer.problem:
            self._tell(f"an answer for {device} makes no sense: {answer.problem}")
        if answer.admission is None:
            self._decide(answer, waiting)
            return
        info = waiting.request.node_info if waiting is not None else "{}"
        try:
            await self._storage.run_patiently(self._admit, answer.admission, info)
        except NotAuthorizedError as refusal:
            self._decide(ServiceAnswer(answer.public_key, code=DENIED, reason=str(refusal)), waiting)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing was done; the next answer may be better
            hint = getattr(error, "hint", "")
            reason = _without_values(error)
            self._tell(f"the answer for {device} could not be carried out: {reason}{f' ({hint})' if hint else ''}")
            self._decide(ServiceAnswer(answer.public_key), waiting)
        else:
            self._done(answer.public_key, waiting)

    def _decide(self, answer: ServiceAnswer, waiting: _Waiting | None) -> None:
        if waiting is None:
            return
        if answer.code == LATER:
            waiting.later = True
            waiting.answer(Decision("later"))
            return
        self._done(answer.public_key, waiting)
        if answer.code == DENIED:
            waiting.answer(Decision("denied", reason=answer.reason or "not authorized"))
        else:
            reason = answer.reason or "the authorization service failed; try again later"
            waiting.answer(Decision("error", reason=reason))

    def _done(self, public_key: bytes, waiting: _Waiting | None) -> None:
        if waiting is not None and self._waiting.get(public_key) is waiting:
            del self._waiting[public_key]
            self._changed()


def _without_values(error: Exception) -> str:
    """SQLite quotes the SQL that it cannot read, and with it what a user typed: a password, where the service forgot to
    quote it. Names of tables and constraints are no secrets."""
    if isinstance(error, Error):
        return str(error)
    text = explained(error)
    if not isinstance(error, apsw.SQLError) or text.startswith("no such table: "):
        return text
    return "syntax error" if text.startswith("near ") else re.split('[:"]', text)[0].strip()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
