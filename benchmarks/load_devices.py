"""Many devices in one process: ``python -m benchmarks.load_devices ADDRESS DEVICES COUNT PUSH FIRST_USER``.

Each is ready and has encoded all it will send before the first pushes. They push COUNT transactions of one row each,
PUSH of them in a message. So the primary is what is measured. Device number n signs in as user FIRST_USER + n where the
primary asks. Prints one JSON object; see ``LoadResult``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import apsw
import msgspec

from benchmarks.nodes import NOTE_TABLE, PROJECT
from benchmarks.raw_device import RawDevice, address_of, new_loop
from octodb.model.identities import row_id_range
from octodb.model.node_uri import Address
from octodb.model.transactions import Op, body_hash, encode_body
from octodb.storage.changesets import build
from octodb.wire.frames import encode_frames
from octodb.wire.messages import Applied, Entries, Push, PushedTransaction, encode_message

__all__ = ["LoadResult", "load"]

# Sent and not yet judged, of one device. A real device allows itself 1024.
_IN_FLIGHT_MAX: Final = 200
_RUN_S_MAX: Final = 900.0


class LoadResult(msgspec.Struct):
    """``seconds``: from the first push to the last verdict; ``busy_seconds``: this process computing meanwhile."""

    transactions: int
    seconds: float
    busy_seconds: float


def load(address: str, device_count: int, count: int, push_count: int, first_user: int = 0) -> LoadResult:
    """Run this module in a process of its own."""
    arguments = [address, *map(str, (device_count, count, push_count, first_user))]
    command = [sys.executable, "-m", "benchmarks.load_devices", *arguments]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=LoadResult)


class _PushingDevice(RawDevice):
    """``finished`` is a future, which fails when the primary says anything unexpected."""

    def __init__(self, user: int, make_body: Callable[[int, int, int], bytes], count: int, push_count: int) -> None:
        super().__init__(user)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._make_body = make_body
        self._count = count
        self._push_count = push_count
        self._pushes: list[bytes] = []
        self._sent_pushes = 0
        self._judged = 0
        self._sent_again = False

    def prepare(self) -> None:
        """Encode every push."""
        assert self.welcome is not None
        first_id, _ = row_id_range(self.welcome.node_id)
        for start in range(0, self._count, self._push_count):
            transactions = []
            for nonce in range(start + 1, min(start + self._push_count, self._count) + 1):
                body = self._make_body(self.welcome.user_id, first_id + nonce - 1, nonce)
                transactions.append(PushedTransaction(nonce, body_hash(body), body))
            self._pushes.append(encode_frames(encode_message(Push(transactions))))

    def push(self) -> None:
        """Send as many pushes as the window allows; the first one twice, as after a lost connection."""
        room = (self._judged + _IN_FLIGHT_MAX) // self._push_count
        end = min(max(room, 1), len(self._pushes))
        if end > self._sent_pushes:
            self._transport.write(b"".join(self._pushes[self._sent_pushes : end]))
            self._sent_pushes = end
        if not self._sent_again and self._judged >= self._count // 2:
            self._sent_again = True
            self._transport.write(self._pushes[0])

    def on_entries(self, message: Entries) -> None:
        self._judged += sum(entry.nonce > 0 for entry in message.entries)
        self.send(Applied(message.through, self._judged, 1))
        if self._judged < self._count:
            self.push()
        elif not self.finished.done():
            self.finished.set_result(None)

    def fail(self, reason: str) -> None:
        super().fail(reason)
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(reason))


async def _run(address: Address, device_count: int, count: int, push_count: int, first_user: int) -> LoadResult:
    loop = asyncio.get_running_loop()
    db = apsw.Connection(":memory:")
    db.execute(NOTE_TABLE)

    def make_body(user_id: int, row_id: int, nonce: int) -> bytes:
        row = (row_id, f"note {nonce} of user {user_id}", nonce, user_id)
        return encode_body(0, [Op(0, build(db, [("INSERT", "note", (), row)]))])

    devices: list[_PushingDevice] = []
    for number in range(device_count):
        _, device = await loop.create_connection(
            lambda user=first_user + number: _PushingDevice(user, make_body, count, push_count),  # type: ignore[misc]
            address.host,
            address.port,
        )
        devices.append(device)
    await asyncio.gather(*(device.joined for device in devices))
    for device in devices:
        device.prepare()
    start, busy_start = time.perf_counter(), time.process_time()
    for device in devices:
        device.push()
    await asyncio.gather(*(device.finished for device in devices))
    seconds, busy_seconds = time.perf_counter() - start, time.process_time() - busy_start
    for device in devices:
        device.close()
    return LoadResult(device_count * count, seconds, busy_seconds)


def main() -> None:
    device_count, count, push_count, first_user = map(int, sys.argv[2:6])
    with asyncio.Runner(loop_factory=new_loop) as runner:
        run = _run(address_of(sys.argv[1]), device_count, count, push_count, first_user)
        result = runner.run(asyncio.wait_for(run, _RUN_S_MAX))
    print(json.dumps(msgspec.to_builtins(result)))


if __name__ == "__main__":
    main()
