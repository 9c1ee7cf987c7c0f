"""The one background thread of this process that runs asyncio for all nodes, and the storage threads beside it.

Owns starting and ending of threads. The registry of what runs in this process lives in ``nodes.py``.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import apsw

__all__ = ["EngineThread", "StorageThread"]

_T = TypeVar("_T")
_ASK_AGAIN_S: Final = 0.05


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - it does not exist on every platform
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    loop.set_exception_handler(_tell_of_error)
    return loop


def _tell_of_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As the loop does, but not of a name that is still being looked up, in vain, when a dial was given up: uvloop has
    nobody to tell then."""
    if isinstance(context.get("exception"), OSError) and "never retrieved" in str(context.get("message")):
        return
    loop.default_exception_handler(context)


class EngineThread:
    """An asyncio loop on a daemon thread. ``call`` and ``run`` may be used from any other thread."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="octodb-engine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run ``function`` on the engine thread soon; dropped when the thread has ended."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop is closed: the process is ending

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """Run ``coroutine`` on the engine thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def stop(self) -> None:
        self.call(self.loop.stop)
        self._thread.join(5.0)


class StorageThread:
    """One thread for the SQLite work of one engine: in order, and never on the loop.

    Not a ThreadPoolExecutor: that refuses work while the interpreter ends, which is when engines are stopped.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None  # started by the first work: many engines never have any

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run ``function(*arguments)`` on the thread and return or raise what it does."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def work() -> None:
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
                loop.call_soon_threadsafe(_settle, done, None, error)
            else:
                loop.call_soon_threadsafe(_settle, done, result, None)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)
        return await done

    async def run_patiently(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """As ``run``; while an application holds the write lock, ask again. It may take its time, nothing is lost."""
        while True:
            try:
                return await self.run(function, *arguments)
            except apsw.BusyError:
                await asyncio.sleep(_ASK_AGAIN_S)

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Let the thread finish what it does and stand still until the function returned is called: a fork must not
        catch it inside SQLite. After ``timeout_s`` seconds it may still be at work."""
        stands, released = threading.Event(), threading.Event()

        def work() -> None:
            stands.set()
            released.wait()

        if self._thread is not None and self._thread is not threading.current_thread():
            self._work.put(work)
            stands.wait(timeout_s)
        return released.set

    def close(self) -> None:
        """End the thread after what was asked of it."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join(5.0)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is not None:
        # a StopIteration cannot be raised into a coroutine
        done.set_exception(RuntimeError("no more") if isinstance(error, StopIteration) else error)
    else:
        done.set_result(result)
