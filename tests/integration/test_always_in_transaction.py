"""autocommit=False on a node: a transaction is always open, and keeps nobody from anything until it writes."""

import octodb
from tests.integration.conftest import rows, wait_for

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"


def test_an_idle_primary_serves_and_an_idle_device_syncs(world):
    world.primary(SCHEMA).close()
    primary = octodb.connect(f"file:{world.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:0", autocommit=False)
    world.open.append(primary)
    assert primary.in_transaction
    world.address = primary.sync_status["bind"][0]
    device = octodb.connect(world.device_uri("device"), autocommit=False)
    world.open.append(device)
    assert device.wait_ready(10), device.sync_status
    assert device.execute("SELECT count(*) FROM t").fetchone() == (0,)

    other = world.device("other")
    other.execute("INSERT INTO t (a) VALUES ('of the other')")
    other.commit()
    primary.execute("INSERT INTO t (a, row_owner) VALUES ('for all', '*')")
    primary.commit()
    device.rollback()
    wait_for(lambda: (device.rollback(), rows(device, "SELECT a FROM t"))[1] == [("for all",)])

    # what was read is old by now, and a write follows all the same
    primary.execute("UPDATE t SET a = 'for all again' WHERE row_owner = '*'")
    primary.commit()
    assert other.wait_synced(10)
    device.execute("SAVEPOINT s")
    device.execute("INSERT INTO t (a) VALUES ('mine')")
    device.execute("RELEASE s")
    assert device.in_transaction
    device.commit()
    assert device.in_transaction
    assert device.wait_synced(10), device.sync_status
    primary.rollback()
    assert rows(primary, "SELECT a FROM t") == [("for all again",), ("mine",), ("of the other",)]
    device.execute("INSERT INTO t (a) VALUES ('never')")
    device.rollback()
    assert ("never",) not in rows(device, "SELECT a FROM t")
