"""The methods of a connection that hand it Python functions. Owns their checks; never calls a function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import apsw

from octodb.dbapi import callbacks
from octodb.errors import OperationalError, ProgrammingError

__all__ = ["CallbackMethods"]


class CallbackMethods:
    """Functions, aggregates, collations and hooks, as on ``sqlite3.Connection``."""

    _db: apsw.Connection

    @abstractmethod
    def _turn(self) -> AbstractContextManager[object]:
        """See Connection."""

    @abstractmethod
    def _diverts_function(self, name: str, narg: int, func: Callable[..., Any] | None) -> bool:
        """Whether ``name`` is a node's callback, which is registered by this call."""

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Make ``func`` an SQL function of ``narg`` arguments (-1: any number); None removes it.

        On a node the names of its callbacks (user_login, …) register those, as register_function does.
        """
        if self._diverts_function(name, narg, func):
            return
        with self._turn():
            wrapped = None if func is None else callbacks.scalar(func)
            try:
                self._db.create_scalar_function(name, wrapped, narg, deterministic=deterministic)
            except apsw.Error:
                raise OperationalError("Error creating function") from None

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: Callable[[], Any] | None) -> None:
        """Make a class with ``step(…)`` and ``finalize()`` an SQL aggregate; None removes it."""
        with self._turn():
            wrapped = None if aggregate_class is None else callbacks.aggregate(aggregate_class)
            try:
                self._db.create_aggregate_function(name, wrapped, n_arg)
            except apsw.Error:
                raise OperationalError("Error creating aggregate") from None

    def create_window_function(self, name: str, num_params: int, aggregate_class: Callable[[], Any] | None, /) -> None:
        """Make a class with ``step``, ``value``, ``inverse`` and ``finalize`` a window function."""
        with self._turn():
            wrapped = None if aggregate_class is None else callbacks.window(aggregate_class)
            try:
                self._db.create_window_function(name, wrapped, num_params)
            except apsw.Error:
                raise ProgrammingError("Error creating window function") from None

    def create_collation(self, name: str, callback: Callable[[str, str], int] | None, /) -> None:
        """Make ``callback`` (negative, 0, positive) the collation ``name``; None removes it."""
        if not isinstance(name, str):
            raise TypeError(f"create_collation() argument 1 must be str, not {type(name).__name__}")
        with self._turn():
            if callback is not None and not callable(callback):
                raise TypeError("parameter must be callable")
            wrapped = None if callback is None else callbacks.collation(callback)
            self._db.create_collation(str.__str__(name), wrapped)

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Ask ``authorizer_callback(action, arg1, arg2, database, trigger)`` when a statement is compiled."""
        with self._turn():
            self._db.authorizer = None if authorizer_callback is None else callbacks.authorizer(authorizer_callback)

    def set_progress_handler(self, progress_handler: Callable[[], object] | None, n: int) -> None:
        """Call ``progress_handler()`` every ``n`` SQLite instructions; a true result interrupts."""
        with self._turn():
            wrapped = None if progress_handler is None else callbacks.progress(progress_handler)
            self._db.set_progress_handler(wrapped, n)

    def set_trace_callback(self, trace_callback: Callable[[str], object] | None) -> None:
        """Call ``trace_callback(sql)`` before each statement runs, with its values filled in."""
        with self._turn():
            self._db.exec_trace = None if trace_callback is None else callbacks.trace(trace_callback)
