"""Writing an authorization service in Python: ``from octodb.authorizer import Service`` (contract.md §7).

The counterpart of the npm package ``@octodb/backend-service``. Any number of primaries connect and ask; every answer
goes to the one that says it is the leader. Needs no database: where users are kept is the handlers' business.

    from octodb.authorizer import Service

    service = Service()

    @service.on_login
    def login(data, node):
        return 7 if data == {"email": "ann@example.org", "password": "secret"} else (-1, "wrong password")

    service.run("tcp://127.0.0.1:4321")
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from octodb.errors import ConfigError, ConnectError, ProtocolError
from octodb.model.admissions import DENIED, FAILED, LATER
from octodb.model.identities import Role
from octodb.model.node_uri import Address, parse_address
from octodb.wire.service_messages import LEADER, TextSplitter, framed

__all__ = ["Service"]

_log: Final = logging.getLogger("octodb.authorizer")
_READ_BYTES: Final = 64 * 1024
# Of handlers that wait (async def) for one primary: beyond it, that primary has to wait.
_AT_WORK_MAX: Final = 1000
# Answers kept while no leader is connected; it asks again for what it has no answer to.
_KEPT_MAX: Final = 1000
_START_S_MAX: Final = 10.0
_CODES: Final = {DENIED, LATER, FAILED}
_FIELDS: Final = frozenset({"user_id", "node_type", "node_id", "execute", "find", "reason"})

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Service:
    """Handlers get ``data``, what the device sent (a dict or list where that is JSON, otherwise a text), and ``node``,
    a dict with ``public_key``, ``type`` and what the device says of itself. They return

    ``7``                                   this user; ``0``: a new one
    ``"secondary"``                         of a new node: let it in
    ``-1``, or ``(-1, "wrong password")``   not authorized, and what the user reads
    ``-3``                                  an error: try again
    ``{"execute": [sql, …]}``               SQL for the primary; the row id of what it inserts is the user's
    ``{"find": sql}``                       a SELECT for the primary that gives ``user_id``
    ``{"user_id": 7, "execute": [sql]}``    both; also ``node_type``, ``node_id``
    ``-2``                                  not decided yet; ``answer`` tells later
    ``None``                                nothing is sent: the device is told so after 30 s, and may try again

    They are called one at a time on the thread that serves, so that they may use a database connection made there;
    an ``async def`` may wait meanwhile. What one raises is logged, and the device may try again.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._leader: asyncio.StreamWriter | None = None
        self._kept: deque[bytes] = deque(maxlen=_KEPT_MAX)
        self._connections: set[asyncio.Task[None]] = set()
        self._at_work: set[asyncio.Task[None]] = set()  # handlers; a lost connection does not end them
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.address = ""
        """Where it listens, with the port that the system chose for 0; '' while it does not."""

    # --- handlers ------------------------------------------------------------------------------------

    def on_signup(self, handler: _Handler) -> _Handler:
        """Decorator: ``handler(data, node)`` decides about PRAGMA user_signup."""
        return self._on("user_signup", handler)

    def on_login(self, handler: _Handler) -> _Handler:
        """Decorator: ``handler(data, node)`` decides about PRAGMA user_login."""
        return self._on("user_login", handler)

    def on_new_node(self, handler: _Handler) -> _Handler:
        """Decorator: ``handler(node)`` decides about a device where there are no users (auth=node)."""
        return self._on("new_node", handler)

    def _on(self, action: str, handler: _Handler) -> _Handler:
        self._handlers[action] = handler
        return handler

    # --- life ----------------------------------------------------------------------------------------

    def run(self, address: str) -> None:
        """Serve on ``tcp://host:port`` until Ctrl-C, SIGTERM or ``stop``. Raises ConfigError, ConnectError."""
        asyncio.run(self.serve(address, signals=threading.current_thread() is threading.main_thread()))

    def start(self, address: str) -> None:
        """As ``run``, on a thread of its own: returns when it listens. ``stop`` ends it."""
        listening, failed = threading.Event(), []

        def work() -> None:
            try:
                asyncio.run(self.serve(address, listening.set))
            except Exception as error:  # noqa: BLE001 - raised where it was started
                failed.append(error)
                listening.set()

        self._thread = threading.Thread(target=work, name="octodb-authorizer", daemon=True)
        self._thread.start()
        listening.wait(_START_S_MAX)
        if failed:
            raise failed[0]

    def stop(self) -> None:
        """End serving. From any thread; from another than the serving one it waits for that."""
        loop, stopping, thread = self._loop, self._stopping, self._thread
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stopping.set)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_START_S_MAX)

    async def serve(
        self, address: str, listening: Callable[[], object] = lambda: None, *, signals: bool = False
    ) -> None:
        """Serve within a running event loop until ``stop``. ``listening`` is called when primaries can connect;
        ``signals``: end at Ctrl-C and SIGTERM."""
        if not address.startswith("tcp://"):
            raise ConfigError(f"{address!r} is not an address of a service", hint="write it as tcp://host:port")
        place = parse_address(address)
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        if signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises there
                    self._loop.add_signal_handler(number, self._stopping.set)
        try:
            server = await asyncio.start_server(self._accept, place.host, place.port)
        except OSError as error:
            raise ConnectError(
                f"cannot listen on {address}: {error.strerror or error}", hint="choose another port, or 0"
            ) from None
        self.address = str(Address(place.host, server.sockets[0].getsockname()[1]))
        _log.info("listening on %s", self.address)
        listening()
        try:
            await self._stopping.wait()
        finally:
            server.close()
            tasks = [*self._connections, *self._at_work]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.address = ""
            self._loop = self._stopping = None

    # --- primaries -----------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        peer = writer.get_extra_info("peername")
        try:
            await self._converse(reader, writer)
        except ProtocolError as error:
            _log.warning("the connection of %s is closed: %s", peer, error)
        except (OSError, asyncio.CancelledError) as error:
            _log.info("the connection of %s ended: %s", peer, error)
        finally:
            self._connections.discard(task)
            if self._leader is writer:
                self._leader = None
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter, free = TextSplitter(), asyncio.Semaphore(_AT_WORK_MAX)
        while data := await reader.read(_READ_BYTES):
            for text in splitter.feed(data):
                if text == LEADER:
                    self._lead(writer)
                    continue
                await free.acquire()
                task = asyncio.create_task(self._handle(text))
                self._at_work.add(task)
                task.add_done_callback(self._at_work.discard)
                task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(0)  # in the order they came, as far as they do not wait

    def _lead(self, writer: asyncio.StreamWriter) -> None:
        self._leader = writer
        while self._kept:
            writer.write(framed(self._kept.popleft()))

    async def _handle(self, text: bytes) -> None:
        try:
            node = json.loads(text)
            action, data, key = node.pop("action"), node.pop("data", ""), node["public_key"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            _log.warning("a request makes no sense: it has no action or no public_key")
            return
        handler = self._handlers.get(action)
        try:
            if handler is None:
                raise LookupError(f"this service has no handler for {action}")
            result = handler(node) if action == "new_node" else handler(data, node)
            if inspect.isawaitable(result):
                result = await result
            answer = _answer(key, result, is_node=action == "new_node")
        except Exception:  # noqa: BLE001 - a handler's own errors are for its log, not for a device
            _log.exception("the handler of %s failed", action)
            answer = _answer(key, FAILED, is_node=False)
        self._send(answer)

    def answer(self, public_key: str, result: Any) -> None:
        """Decide about a device later: ``result`` is what its handler could have returned. From any thread.

        Raises TypeError or ValueError for what is none, RuntimeError when the service does not run.
        """
        text = _answer(public_key, result, is_node=isinstance(result, str))
        if text is None:
            raise ValueError("that is no answer")
        if self._loop is None:
            raise RuntimeError("the service does not run")
        self._loop.call_soon_threadsafe(self._send, text)

    def _send(self, text: bytes | None) -> None:
        if text is None:
            return
        if self._leader is None or self._leader.is_closing():
            self._kept.append(text)
        else:
            self._leader.write(framed(text))


def _answer(public_key: str, result: Any, *, is_node: bool) -> bytes | None:
    """What is sent for what a handler returned; None: nothing. Raises TypeError, ValueError for what means nothing."""
    reason = None
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
        result, reason = result
    if isinstance(result, dict):
        unknown = result.keys() - _FIELDS
        if unknown or not result:
            raise ValueError(
                f"an answer has {', '.join(sorted(_FIELDS))}; not {', '.join(map(str, unknown)) or 'none'}"
            )
        return json.dumps({"pubkey": public_key, **result}).encode()
    if result is None:
        return None
    if isinstance(result, str) and is_node and result in set(Role):
        fields: dict[str, Any] = {"node_type": result}
    elif isinstance(result, int) and not isinstance(result, bool) and (result >= 0 or result in _CODES):
        if is_node and result >= 0:
            raise ValueError("a handler of new nodes returns 'secondary', or -1")
        fields = {"node_type" if is_node else "user_id": result}
    else:
        raise TypeError(f"a handler returned {result!r}, which is no answer")
    return json.dumps({"pubkey": public_key, **fields} | ({} if reason is None else {"reason": reason})).encode()
