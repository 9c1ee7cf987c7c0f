"""The engine writes the WAL back beside the application, which does it itself only where nobody else has come to it."""

import os

import apsw
import pytest

import octodb
from octodb.model.identities import Role
from octodb.storage.database import engine_connection
from octodb.storage.wal import WAL_PAGES_MAX, WalKeeper
from tests.integration.conftest import wait_for

pytestmark = pytest.mark.skipif(not hasattr(apsw, "SQLITE_CHECKPOINT_NOOP"), reason="SQLite 3.51 or later")


def state(db):
    """How many pages the WAL has, and how many of them are in the database already."""
    return db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)


@pytest.fixture
def application(tmp_path):
    db = apsw.Connection(f"{tmp_path}/device.db")
    sql = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (id INTEGER PRIMARY KEY, x)"
    db.execute(sql).fetchall()
    yield db
    db.close()


@pytest.fixture
def engine(application):
    db = engine_connection(application.filename, Role.SECONDARY)
    yield db
    db.close()


def write_pages(connection, count):
    for _ in range(count // 10):
        connection.execute("INSERT INTO t (x) VALUES (zeroblob(40000))")


def test_a_short_wal_is_left_alone_and_a_long_one_is_written_back(application, engine):
    keeper = WalKeeper(engine)
    before = state(engine)
    write_pages(application, 100)
    keeper.checkpoint()
    assert state(engine)[1] == before[1]
    write_pages(application, 1000)
    keeper.checkpoint()
    pages, written_back = state(engine)
    assert pages == written_back > 1000


def test_it_waits_for_nobody(application, engine):
    """A reader keeps the end of the WAL from being written back: that is left for the next time."""
    keeper = WalKeeper(engine)
    reader = apsw.Connection(application.filename)
    rows = reader.cursor().execute("SELECT 1 FROM sqlite_schema UNION ALL SELECT 2")
    next(rows)
    write_pages(application, 1000)
    keeper.checkpoint()
    pages, written_back = state(engine)
    assert written_back < pages
    rows.close()
    keeper.checkpoint()
    assert state(engine) == (pages, pages)
    reader.close()


def test_a_connection_that_is_not_to_checkpoint_does_not(engine):
    assert WalKeeper(engine).wanted
    engine.execute("PRAGMA wal_autocheckpoint = 0")
    assert not WalKeeper(engine).wanted


def test_the_engine_of_a_device_does_it_while_the_application_goes_on(tmp_path):
    with octodb.connect(f"file:{tmp_path}/primary.db?node=primary&bind=tcp://127.0.0.1:0") as primary:
        primary.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY, x, row_owner);")
        uri = f"file:{tmp_path}/device.db?node=secondary&connect={primary.sync_status['bind'][0]}"
        device = octodb.connect(uri, isolation_level=None)
        assert device.wait_ready(15)
        assert device.execute("PRAGMA wal_autocheckpoint").fetchone() == (WAL_PAGES_MAX,)
        write_pages(device, 600)
        # only a checkpoint writes there, and the application's own is far away
        wait_for(lambda: os.path.getsize(f"{tmp_path}/device.db") > 100 * 4096)
        device.close()
    primary.close()
