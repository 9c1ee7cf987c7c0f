"""Downloads over a line that breaks: they go on where they were, and a later one leaves the application at work."""

import time

import pytest

import octodb
from octodb.log.embedded_log import EmbeddedLog
from octodb.model.identities import Role
from octodb.storage.database import engine_connection
from octodb.storage.primary_store import PrimaryStore
from tests.integration.conftest import free_port, rows, wait_for
from tests.integration.dosing_proxy import DosingProxy

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
