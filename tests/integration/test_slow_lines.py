"""Large messages on a slow line: the smaller ones wait behind them, and that is no silence."""

import contextlib
import socket
import threading
from unittest import mock

import pytest

from octodb.runtime import device_engine
from octodb.sync import device as device_sync
from octodb.sync import primary as primary_sync
from tests.integration.conftest import wait_for

PIECE_BYTES = 65536
PIECE_S = 0.03  # 2 MB/s
LARGE_BYTES = 16_000_000  # eight seconds; what the system takes at once, some MB, shows no progress


class SlowLine:
    """A proxy through which both directions crawl."""

    def __init__(self, address):
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._open, self._threads = [self._listener], []
        self._ended = threading.Event()
        self._start(self._accept)

    def close(self):
        self._ended.set()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _start(self, function, *arguments):
        self._threads.append(threading.Thread(target=function, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._server)
            self._open += [client, server]
            self._start(self._crawl, client, server)
            self._start(self._crawl, server, client)

    def _crawl(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                sink.sendall(data)
                self._ended.wait(PIECE_S * len(data) / PIECE_BYTES)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def impatient():
    """Both sides take three seconds for silence."""
    with contextlib.ExitStack() as stack:
        for module, name, seconds in (
            (device_sync, "_PING_AFTER_S", 0.5),
            (device_sync, "_SILENCE_S_MAX", 3.0),
            (primary_sync, "_SILENCE_S_MAX", 3.0),
        ):
            stack.enter_context(mock.patch.object(module, name, seconds))
        yield


@pytest.fixture
def line(world, impatient):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)")
    line = SlowLine(world.address)
    yield line
    world.close()
    line.close()


def test_a_large_transaction_goes_up(world, line):
    device = world.device("device", connect=line.address)
    device.execute("INSERT INTO t (a) VALUES (randomblob(?))", (LARGE_BYTES,))
    device.commit()
    assert device.flush(30), device.sync_status
    assert line.connections == 1


def test_a_large_row_comes_down(world, line):
    device = world.device("device", connect=line.address)
    primary = world.open[0]
    primary.execute("INSERT INTO t (a, row_owner) VALUES (randomblob(?), '*')", (LARGE_BYTES,))
    primary.commit()
    wait_for(lambda: device.execute("SELECT count(*) FROM t").fetchone() == (1,), 30)
    assert line.connections == 1


def test_without_the_progress_the_line_would_be_cut(world, line):
    """So the test is not blind."""
    with mock.patch.object(device_engine, "_PROGRESS_BYTES", 1 << 40):
        device = world.device("device", connect=line.address)
        device.execute("INSERT INTO t (a) VALUES (randomblob(?))", (LARGE_BYTES,))
        device.commit()
        wait_for(lambda: line.connections > 1, 20)
