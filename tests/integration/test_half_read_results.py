"""A half-read result holds an old snapshot; a write that comes after another's commit takes place all the same."""

import octodb

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, n, row_owner);"


def test_half_read_results_stay_readable_and_in_nobodys_way(world):
    primary = world.primary(SCHEMA)
    primary.executemany("INSERT INTO t (n) VALUES (?)", [(n,) for n in range(1000)])
    primary.commit()
    other = octodb.connect(primary.node_uri)
    world.open.append(other)
    first = primary.execute("SELECT n FROM t ORDER BY id")
    assert first.fetchone() == (0,)
    # many that are read and gone, and many that stay, must not make it forget the one
    kept = [primary.execute("SELECT n FROM t WHERE n >= ?", (n,)) for n in range(600)]
    for n in range(600):
        primary.execute("SELECT n FROM t WHERE n = ?", (n,)).fetchone()
    other.execute("UPDATE t SET n = -1")
    other.commit()

    primary.execute("INSERT INTO t (n) VALUES (1000)")
    primary.commit()

    assert first.fetchall() == [(n,) for n in range(1, 1000)]
    assert kept[599].fetchone() == (599,)
    assert primary.execute("SELECT count(*), min(n), max(n) FROM t").fetchone() == (1001, -1, 1000)
