"""Downloads over a line that breaks: they go on where they were, and a later one leaves the application at work."""

import time

import apsw
import msgspec
import pytest

import octodb
from octodb.log.embedded_log import EmbeddedLog
from octodb.model.identities import Role
from octodb.storage.database import engine_connection
from octodb.storage.device_store import DeviceStore
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.snapshot import SnapshotLoader
from octodb.storage.staging import Staging
from octodb.wire.messages import SnapshotChunk, SnapshotEnd, SnapshotStart, Welcome
from tests.integration.conftest import free_port, rows, wait_for
from tests.integration.dosing_proxy import DosingProxy
from tests.integration.raw_device import RawDevice

SCHEMA = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
    "CREATE TABLE list (id INTEGER PRIMARY KEY, a);"
    "CREATE VIRTUAL TABLE words USING fts5 (a, content = 't', content_rowid = 'id');"
    "CREATE TRIGGER t_in AFTER INSERT ON t BEGIN"
    " INSERT INTO list VALUES (NEW.id, NEW.a); INSERT INTO words (rowid, a) VALUES (NEW.id, NEW.a); END;"
    "CREATE TRIGGER t_out AFTER DELETE ON t BEGIN"
    " DELETE FROM list WHERE id = OLD.id; INSERT INTO words (words, rowid, a) VALUES ('delete', OLD.id, OLD.a); END;"
)
COUNT = 30_000


@pytest.fixture
def line(world):
    """A primary with rows, and a line to it that can be cut."""
    port = free_port()
    primary = world.primary(SCHEMA, port=port)
    primary.executemany(
        "INSERT INTO t (a, row_owner) VALUES ('row ' || ? || ' of many', '*')", [(n,) for n in range(COUNT)]
    )
    primary.commit()
    proxy = DosingProxy(free_port(), port, 0)
    proxy.release()
    proxy.start()
    yield primary, proxy
    proxy.close()


def cut_log(world):
    """What a primary does every ten minutes."""
    db = engine_connection(f"{world.folder}/primary.db", Role.PRIMARY)
    keep_days, keep_entries = PrimaryStore(db, time.time).log_keeps()
    while EmbeddedLog(db, time.time).cut(keep_days * 86400, keep_entries):
        pass
    db.close()


def test_a_first_download_that_is_cut_off_goes_on(world, line):
    primary, proxy = line
    whole = world.device("whole")
    assert whole.wait_synced(20)
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}", ready=False)
    for part in (0.2, 0.5):
        wait_for(
            lambda part=part: (
                ((device.sync_status["snapshot"] or {}).get("rows") or 0) >= part * COUNT or device.is_ready()
            )
        )
        proxy.cut()
    assert device.wait_synced(30), device.sync_status
    assert device.execute("SELECT count(*), count(DISTINCT a) FROM t").fetchone() == (COUNT, COUNT)
    assert device.sync_status["bytes"]["in"] < 1.5 * whole.sync_status["bytes"]["in"]
    for node in (whole, device, primary):  # what triggers keep up is kept up while rows come in
        assert rows(node, "SELECT count(*) FROM list") == [(COUNT,)]
        assert rows(node, "SELECT count(*) FROM words WHERE words MATCH 'row'") == [(COUNT,)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_first_download_larger_than_what_is_on_its_way_goes_on(world, monkeypatch, comes_back):
    """The window is some 16 messages: what is behind them was not sent when the line is cut."""
    port = free_port()
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)", port=port)
    for _ in range(4):
        primary.executemany("INSERT INTO t (a, row_owner) VALUES (zeroblob(100000), '*')", [()] * 100)
        primary.commit()
    proxy = DosingProxy(free_port(), port, 0)
    proxy.release()
    proxy.start()
    if not comes_back:  # in time
        monkeypatch.setattr("octodb.sync.device._RESUMABLE_S", 0.0)
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}", ready=False)
    for part in (0.2, 0.5):
        wait_for(lambda part=part: ((device.sync_status["snapshot"] or {}).get("rows") or 0) >= part * 400)
        proxy.cut()
    assert device.wait_synced(30), device.sync_status
    assert device.execute("SELECT count(*), count(DISTINCT id) FROM t").fetchone() == (400, 400)
    assert (device.sync_status["bytes"]["in"] < 1.3 * 400 * 100_000) is comes_back
    device.execute("INSERT INTO t (a) VALUES (1)")
    device.commit()
    assert device.wait_synced(10)
    world.close(device)
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}")
    assert device.wait_synced(10), device.sync_status
    assert len(primary.execute("PRAGMA nodes").fetchall()) == 2, "it is the same device still"
    proxy.close()


def test_a_download_goes_on_although_the_old_line_seems_alive(world):
    """A device that changed its network comes back long before the primary hears that the old line is dead."""
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)")
    primary.executemany("INSERT INTO t (a, row_owner) VALUES (zeroblob(200000), '*')", [()] * 30)
    primary.commit()
    with RawDevice(world.address) as before, RawDevice(world.address) as after:
        before.prove()
        before.welcome = before.receive(Welcome)
        before.subscribe()
        token = before.receive(SnapshotStart).token
        for _ in range(5):
            before.receive(SnapshotChunk)
        after.take_key_of(before)
        after.hello = msgspec.structs.replace(after.hello, session_token=before.welcome.session_token)
        after.prove()
        after.welcome = after.receive(Welcome)
        after.subscribe(resume=(token, 5))
        assert after.receive(SnapshotStart).parts == 5
        after.receive(SnapshotChunk)


def test_the_download_of_another_user_is_not_gone_on_with(world):
    """P5, also where a device has learned the other's token: with auth=none each is a user of its own."""
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)")
    with RawDevice(world.address) as one, RawDevice(world.address) as other:
        one.prove()
        one.welcome = one.receive(Welcome)
        primary.executemany("INSERT INTO t (a, row_owner) VALUES (zeroblob(200000), ?)", [(one.welcome.user_id,)] * 30)
        primary.commit()
        one.subscribe()
        token = one.receive(SnapshotStart).token
        one.receive(SnapshotChunk)
        one.end_sending()
        one.until_closed()
        other.prove()
        other.welcome = other.receive(Welcome)
        other.subscribe(resume=(token, 1))
        start = other.receive(SnapshotStart)
        assert (start.parts, start.rows_total) == (0, 0)
        assert start.token != token
        assert isinstance(other.receive(), SnapshotEnd)


def back_after_the_log_was_cut(world, primary, device, meanwhile):
    """``meanwhile`` is SQL that the primary runs before its log is cut behind it."""
    world.close(device)
    primary.executescript(meanwhile)
    primary.execute("PRAGMA log_keep_entries = 1")
    primary.executescript("CREATE TABLE later (id INTEGER PRIMARY KEY, row_owner); INSERT INTO later VALUES (1, '*')")
    primary.commit()
    cut_log(world)
    device = world.device("device")
    assert device.wait_synced(10), device.sync_status["last_error"]
    wait_for(lambda: rows(device, "SELECT count(*) FROM sqlite_schema WHERE name = 'later'") == [(1,)])
    return device


def test_a_part_that_cannot_be_stored_ends_the_download(world, monkeypatch):
    """What comes behind it must not pass for the whole."""
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, row_owner); INSERT INTO t VALUES (1, '*'), (2, '*')"
    )
    failures = []

    def failing(original):
        def load(self, part):
            if failures.append(part.table) or len(failures) in {1, 3}:
                raise apsw.FullError("database or disk is full")
            original(self, part)

        return load

    states = []
    for loader in (SnapshotLoader, Staging):
        monkeypatch.setattr(loader, "load", failing(loader.load))

    def counting(original):
        def work(self, *arguments):
            result = original(self, *arguments)
            states.append(rows(self._db, "SELECT count(*) FROM t"))
            return result

        return work

    monkeypatch.setattr(SnapshotLoader, "finish", counting(SnapshotLoader.finish))
    monkeypatch.setattr(DeviceStore, "swap", counting(DeviceStore.swap))
    device = world.device("device")
    assert rows(device, "SELECT id FROM t") == [(1,), (2,)]
    device = back_after_the_log_was_cut(world, primary, device, "INSERT INTO t VALUES (3, '*')")
    assert rows(device, "SELECT id FROM t") == [(1,), (2,), (3,)]
    assert states == [[(2,)], [(3,)]]
    assert len(failures) >= 4


def test_a_unique_index_that_earlier_rows_do_not_fit(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)")
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES ('same'), ('same'), ('other')")
    device.commit()
    assert device.wait_synced(10)
    device.execute("INSERT INTO t (a, row_owner) VALUES ('other', NULL), ('local', NULL)")
    device.commit()
    device = back_after_the_log_was_cut(
        world,
        primary,
        device,
        "UPDATE t SET a = 'changed' WHERE id = (SELECT min(id) FROM t); CREATE UNIQUE INDEX once ON t (a);",
    )
    assert rows(device, "SELECT a, row_owner IS NULL FROM t ORDER BY a") == [
        ("changed", 0),
        ("local", 1),
        ("other", 0),
        ("same", 0),
    ]
    assert len(rows(device, "SELECT * FROM _octodb_displaced")) == 1
    assert rows(device, "SELECT name FROM sqlite_schema WHERE name = 'once'") == [("once",)]


def test_a_trigger_that_fails_for_a_row_does_not_keep_the_row_away(world):
    """The trigger came when the rows were there, so that nobody had to mind its errors."""
    world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "INSERT INTO t VALUES (1, 'x', '*'), (2, 'x', '*'), (3, 'y', '*'); CREATE TABLE seen (a UNIQUE);"
        "CREATE TRIGGER see AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (NEW.a); END"
    )
    device = world.device("device")
    assert rows(device, "SELECT id FROM t") == [(1,), (2,), (3,)]
    assert rows(device, "SELECT a FROM seen ORDER BY a") == [("x",), ("y",)]


def test_a_device_that_was_away_longer_than_the_log_goes_back(world, line):
    primary, proxy = line
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}")
    assert device.wait_synced(20)
    world.close(device)
    primary.execute("PRAGMA log_keep_entries = 1")
    for n in range(5):
        primary.execute("INSERT INTO t (a, row_owner) VALUES (?, '*')", (f"later {n}",))
        primary.execute("DELETE FROM t WHERE a = ?", (f"row {n} of many",))
        primary.commit()
    world.close(primary)
    cut_log(world)
    device = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    device.execute("INSERT INTO t (a) VALUES ('offline')")
    device.execute("INSERT INTO t (a, row_owner) VALUES ('local', NULL)")
    device.commit()
    device.close()
    primary = world.primary(port=proxy.server_port)
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}")
    assert device.wait_synced(30), device.sync_status
    assert rows(device, "SELECT * FROM t WHERE row_owner IS NOT NULL") == rows(primary, "SELECT * FROM t")
    assert rows(primary, "SELECT count(*) FROM t WHERE a = 'offline'") == [(1,)]
    assert rows(device, "SELECT count(*) FROM t WHERE a = 'local'") == [(1,)]
    assert rows(device, "SELECT count(*) FROM list") == rows(device, "SELECT count(*) FROM t")
    assert device.execute("PRAGMA sync_check(20)").fetchone() == ("ok",)
