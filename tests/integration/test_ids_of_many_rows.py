"""executemany() gives the row ids that as many execute() would give, also where SQLite itself numbers the rows."""

import pytest

from tests.integration.conftest import wait_for

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, x, row_owner);
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x, row_owner);
"""
ROWS = [(n,) for n in range(5)]
ABOVE_US = 0x7000_0000 << 32  # in the range of a node that comes after us


def ids(device, table="t"):
    return [row[0] for row in device.execute(f"SELECT id FROM {table} WHERE x IS NOT 'other' ORDER BY rowid")]


def insert(device, way, table="t"):
    sql = f"INSERT INTO {table} (x) VALUES (?)"
    if way == "executemany":
        device.executemany(sql, ROWS)
    else:
        for row in ROWS:
            device.execute(sql, row)


@pytest.fixture
def device(world):
    world.primary(SCHEMA)
    return world.device("device")


@pytest.mark.parametrize("way", ["executemany", "execute"])
def test_they_go_on_where_the_last_ones_ended(device, way):
    first = device.execute("INSERT INTO t (x) VALUES (0) RETURNING id").fetchone()[0]
    insert(device, way)
    device.execute("INSERT INTO t (x) VALUES (0)")
    insert(device, way)
    device.commit()
    insert(device, way)
    device.commit()
    assert ids(device) == list(range(first, first + 17))
    assert first >> 32 == device.execute("SELECT this_node()").fetchone()[0]


@pytest.mark.parametrize("way", ["executemany", "execute"])
@pytest.mark.parametrize("where", ["before", "in the same transaction"])
def test_rows_of_others_above_ours_do_not_draw_them_out_of_our_range(device, way, where):
    insert(device, way)
    device.execute("INSERT INTO t (id, x) VALUES (?, 'other')", (ABOVE_US,))
    if where == "before":
        device.commit()
    insert(device, way)
    device.commit()
    first = (device.execute("SELECT this_node()").fetchone()[0] << 32) + 1
    assert ids(device) == list(range(first, first + 10))


@pytest.mark.parametrize("way", ["executemany", "execute"])
@pytest.mark.parametrize("where", ["before", "in the same transaction"])
def test_ids_of_rows_that_are_gone_are_not_given_again(device, way, where):
    insert(device, way)
    device.commit()
    before = ids(device)
    device.execute("DELETE FROM t WHERE id >= ?", (before[2],))
    if where == "before":
        device.commit()
    insert(device, way)
    device.commit()
    assert ids(device) == [*before[:2], *range(before[-1] + 1, before[-1] + 6)]


@pytest.mark.parametrize("way", ["executemany", "execute"])
def test_autoincrement_has_a_mind_of_its_own(device, way):
    insert(device, way, "counted")
    device.execute("INSERT INTO counted (id, x) VALUES (?, 'other')", (ABOVE_US,))
    device.execute("DELETE FROM counted WHERE x = 'other'")
    insert(device, way, "counted")
    device.commit()
    first = (device.execute("SELECT this_node()").fetchone()[0] << 32) + 1
    assert ids(device, "counted") == list(range(first, first + 10))


def test_the_primary_has_the_same_rows(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    for _ in range(3):
        insert(device, "executemany")
        insert(device, "execute")
        device.commit()
    rows = device.execute("SELECT id, x FROM t ORDER BY id").fetchall()
    assert len(rows) == len(set(rows)) == 30
    wait_for(lambda: primary.execute("SELECT id, x FROM t ORDER BY id").fetchall() == rows)


def test_a_row_that_fails_leaves_the_ids_in_order(device):
    insert(device, "executemany")
    before = ids(device)

    def rows():
        yield (1,)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        device.executemany("INSERT INTO t (x) VALUES (?)", rows())
    insert(device, "execute")
    insert(device, "executemany")
    device.commit()
    assert ids(device) == list(range(before[0], before[0] + 16))
