"""The beginning of the log is cut off: what stays, what can still be asked, and who has to download again."""

from octodb.model.transactions import CHAIN_START

SCHEMA = "CREATE TABLE item (id INTEGER PRIMARY KEY, a UNIQUE, row_owner)"


def cut(primary, keep):
    while primary.log.cut(1e9, keep, 3):
        pass


def test_entries_go_and_running_hashes_stay(world):
    primary, device, _ = world(SCHEMA, (2, 3))
    for n in range(10):
        primary.run("INSERT INTO item (a, row_owner) VALUES (?, ?)", (n, (2, 3, "*")[n % 3]))
    device.settle()
    cursor = device.store.cursor()
    size = primary.rows("SELECT sum(length(body)) FROM _octodb_log")
    cut(primary, 2)
    assert primary.rows("SELECT count(*) FROM _octodb_log WHERE body <> x''") == [(2,)]
    assert primary.rows("SELECT sum(length(body)) FROM _octodb_log") < size
    matches = primary.log.cursor_matches
    assert matches(2, cursor.seq, cursor.chain_user, cursor.chain_all), "who is at the end goes on"
    assert not matches(2, 5, CHAIN_START, CHAIN_START), "who is before the beginning downloads again"
    primary.run("INSERT INTO item (a, row_owner) VALUES ('later', 2)")
    device.settle()
    assert device.rows("SELECT count(*) FROM item WHERE a = 'later'") == [(1,)]
    cut(primary, 1)
    assert primary.log.head() == device.store.cursor().seq


def test_it_can_be_cut_by_age(world):
    primary, _ = world(SCHEMA)
    for n in range(5):
        primary.run("INSERT INTO item (a, row_owner) VALUES (?, '*')", (n,))
    (newest,) = primary.rows("SELECT max(made_at) FROM _octodb_log")[0]
    primary.log._clock = lambda: newest + 100.0
    assert not primary.log.cut(101.5, 0), "one step is enough"
    kept = primary.rows("SELECT count(*), min(made_at) FROM _octodb_log WHERE body <> x''")
    assert kept == primary.rows("SELECT count(*), min(made_at) FROM _octodb_log WHERE made_at >= ?", newest - 1.5)


def test_a_device_that_never_heard_its_verdict_can_still_ask(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO item (a) VALUES ('mine')")
    device.push()
    for n in range(5):
        primary.run("INSERT INTO item (a, row_owner) VALUES (?, '*')", (n,))
    cut(primary, 1)
    assert primary.rows("SELECT nonce FROM _octodb_acceptances") == [(1,)]
    device.push()  # the same again: no fork, and not twice
    assert primary.rows("SELECT count(*) FROM item WHERE a = 'mine'") == [(1,)]
    primary.store.confirm_verdicts(device.record.node_id, 1)
    assert primary.rows("SELECT * FROM _octodb_acceptances") == []
