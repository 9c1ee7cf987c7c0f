"""An application's connection reads what is newest: nothing of octodb keeps an old snapshot open."""

import apsw
import pytest

TABLE = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, row_owner)"


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO item (name) VALUES ('a')"],
        ["BEGIN", "DELETE FROM item", "ROLLBACK"],
        ["BEGIN", "DELETE FROM item", "COMMIT"],
        ["BEGIN", "INSERT INTO item (name) VALUES ('a')", "ROLLBACK"],
        ["SAVEPOINT s", "DELETE FROM item", "ROLLBACK TO s", "RELEASE s"],
        ["SAVEPOINT s", "INSERT INTO item (name) VALUES ('a')", "RELEASE s"],
        ["INSERT INTO item (name) VALUES ('a'), ('a')"],
    ],
    ids=" ".join,
)
def test_no_read_transaction_stays_open(world, statements):
    for node in world(TABLE):
        for sql in statements:
            try:
                node.run(sql)
            except apsw.ConstraintError:
                assert "('a'), ('a')" in sql
        assert not node.db.in_transaction
        assert node.db.txn_state("main") == apsw.SQLITE_TXN_NONE
