"""Ready devices that do nothing but what keeps them connected: ``python -m benchmarks.idle_devices ADDRESS``.

Reads numbers, one a line: so many devices shall be connected now. Answers with how many are, once they have joined.
Ends when its standard input is closed. Where a primary asks for it, device number n signs in as user 1,000,000 + n.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.nodes import PROJECT
from benchmarks.processes import raise_file_limit
from benchmarks.raw_device import RawDevice, address_of, new_loop
from octodb.model.node_uri import Address

__all__ = ["IdleDevices", "devices_possible", "idle_devices"]

# As in sync/device.py: what a device does when it has heard nothing.
_PING_AFTER_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.5
_JOINING_MAX: Final = 64
_FIRST_USER: Final = 1_000_000
# Of the process that holds the devices and of the primary, for everything else.
_FILES_BESIDE: Final = 200


def devices_possible(wanted: int) -> int:
    """How many of ``wanted`` devices the limit on open files leaves room for; says so on stderr when it is fewer."""
    possible = min(wanted, raise_file_limit() - _FILES_BESIDE)
    if possible < wanted:
        print(
            f"  (only {possible:,} of {wanted:,} devices: this process may not open more files;"
            " raise the hard limit of ulimit -n)",
            file=sys.stderr,
        )
    return possible


class IdleDevices:
    """The process that holds them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asks, self._answers = process.stdin, process.stdout

    def connect(self, count: int) -> None:
        """Have ``count`` devices connected, those that are already included. Raises RuntimeError when some are lost."""
        print(count, file=self._asks, flush=True)
        answer = self._answers.readline().strip()
        if answer != str(count):
            raise RuntimeError(f"{answer or 'none'} of {count} idle devices are connected")


@contextmanager
def idle_devices(address: str) -> Iterator[IdleDevices]:
    command = [sys.executable, "-m", "benchmarks.idle_devices", address]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield IdleDevices(process)
        finally:
            process.stdin.close()


async def _hold(address: Address) -> None:
    loop = asyncio.get_running_loop()
    devices: list[RawDevice] = []
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    pinging = asyncio.create_task(_ping(devices))
    while line := await asked.readline():
        joining = asyncio.Semaphore(_JOINING_MAX)
        wanted = int(line) - len(devices)
        await asyncio.gather(*(_join(address, devices, joining) for _ in range(wanted)))
        print(sum(not device.lost for device in devices), flush=True)
    pinging.cancel()


async def _join(address: Address, devices: list[RawDevice], joining: asyncio.Semaphore) -> None:
    async with joining:
        user = _FIRST_USER + len(devices)
        devices.append(device := RawDevice(user))
        await asyncio.get_running_loop().create_connection(lambda: device, address.host, address.port)
        await device.joined


async def _ping(devices: list[RawDevice]) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        for device in devices:
            if device.joined.done():
                device.ping_when_quiet(_PING_AFTER_S)


def main() -> None:
    raise_file_limit()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_hold(address_of(sys.argv[1])))


if __name__ == "__main__":
    main()
