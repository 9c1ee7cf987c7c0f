"""Listening for TLS so that a connection is known by its address before TLS is agreed on.

``loop.create_server(ssl=…)`` tells of a connection when its handshake is over: who never finishes one would be counted
by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from octodb.runtime.framed_connection import FramedConnection

__all__ = ["TlsListener", "listening_sockets"]

_HANDSHAKE_S_MAX: Final = 10.0
# When there are no files left the next connection is tried again after this.
_TROUBLE_S: Final = 0.1


async def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """One for each address that ``host`` has, as ``loop.create_server`` makes them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(backlog)
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return sockets


class TlsListener:
    """``knock(host)`` gives the connection for somebody at that address; it is made when TLS is agreed on, or lost."""

    def __init__(
        self, sockets: list[socket.socket], context: ssl.SSLContext, knock: Callable[[str], FramedConnection]
    ) -> None:
        self.sockets = sockets
        self._context = context
        self._knock = knock
        self._tasks = [asyncio.create_task(self._accept(one)) for one in sockets]
        self._handshakes: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Accept no more; handshakes that are under way end."""
        for task in (*self._tasks, *self._handshakes):
            task.cancel()
        for one in self.sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                plain, peer = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_TROUBLE_S)
                continue
            connection = self._knock(str(peer[0]))
            if connection.refused:
                plain.close()
                connection.never_made("refused")
                continue
            task = asyncio.create_task(self._secure(plain, connection))
            connection.handshake = task
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _secure(self, plain: socket.socket, connection: FramedConnection) -> None:
        loop = asyncio.get_running_loop()
        reason = "TLS was not agreed on"
        try:
            await loop.connect_accepted_socket(
                lambda: connection, plain, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_S_MAX
            )
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError is an OSError
            with contextlib.suppress(OSError):
                plain.close()
            connection.never_made(str(error) or reason)
        connection.handshake = None
