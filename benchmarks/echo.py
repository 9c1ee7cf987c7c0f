"""The bare TCP echo that latencies are read beside: ``python -m benchmarks.echo`` is its server.

The server prints its port and sends back what it receives until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any, Final

from benchmarks.nodes import PROJECT
from benchmarks.raw_device import new_loop

__all__ = ["echo_times"]

_RUN_S_MAX: Final = 300.0


def echo_times(count: int, payload_bytes: int, pause_s: float) -> list[float]:
    """Seconds from sending ``payload_bytes`` to having them back, ``count`` times, with a pause before each.

    Server and client are processes and asyncio loops as those of nodes are.
    """
    command = [sys.executable, "-m", "benchmarks.echo"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            with asyncio.Runner(loop_factory=new_loop) as runner:
                client = _client(port, count, bytes(payload_bytes), pause_s)
                return runner.run(asyncio.wait_for(client, _RUN_S_MAX))
        finally:
            server.stdin.close()


class _Client(asyncio.Protocol):
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._missing = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing == 0:
            self._back.set_result(time.perf_counter())

    async def turn(self) -> float:
        self._back = asyncio.get_running_loop().create_future()
        self._missing = len(self._payload)
        start = time.perf_counter()
        self._transport.write(self._payload)
        return float(await self._back) - start


class _Server(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _client(port: int, count: int, payload: bytes, pause_s: float) -> list[float]:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: _Client(payload), "127.0.0.1", port)
    times: list[float] = []
    for _ in range(count):
        await asyncio.sleep(pause_s)
        times.append(await client.turn())
    transport.close()
    return times


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
