"""Twins of triggers: the same timing and event, only the statements that write what stays on the node."""

import apsw
import pytest

from octodb.sql.trigger_text import twin_trigger

LOCAL = {"list", "fts", 'odd "name'}


def twin(sql):
    return twin_trigger(sql, "twin", "keeps_up()", lambda table: table in LOCAL)


@pytest.mark.parametrize(
    ("sql", "event", "table", "targets"),
    [
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN INSERT INTO list VALUES (NEW.x); END", "INSERT", "t", {"list"}),
        ("create trigger if not exists a delete on t begin delete from list where x = old.x; end", "DELETE", "t",
        {"list"}), (
            "CREATE TRIGGER main.a BEFORE UPDATE OF x, y ON t FOR EACH ROW WHEN NEW.x IS NOT OLD.x"
            " BEGIN UPDATE OR IGNORE list SET x = 1; REPLACE INTO fts VALUES (1); END",
            "UPDATE", "t", {"list", "fts"},
        ),
        (
            'CREATE TRIGGER "begin" AFTER DELETE ON "odd table" WHEN CASE WHEN OLD.x THEN 1 ELSE 0 END'
            ' BEGIN INSERT OR REPLACE INTO "odd ""name" SELECT 1; SELECT 2; UPDATE t SET x = 1; END',
            "DELETE", "odd table", {'odd "name'},
        ),
        (
            "CREATE TRIGGER a /* ON here */ AFTER INSERT -- BEGIN\n ON t BEGIN /* ; */"
            " INSERT INTO list VALUES (';END'); INSERT INTO t VALUES (1); END",
            "INSERT", "t", {"list"},
        ),
    ],
)  # fmt: skip
def test_a_twin_does_the_local_part(sql, event, table, targets):
    found = twin(sql)
    assert (found.event, found.table, found.targets) == (event, table, frozenset(targets))
    db = apsw.Connection(":memory:")
    db.create_scalar_function("keeps_up", lambda: True, 0)
    for name in ("t", "odd table"):
        db.execute(f'CREATE TABLE "{name}" (x, y)')
    for name in LOCAL:
        db.execute('CREATE TABLE "{}" (x PRIMARY KEY)'.format(name.replace('"', '""')))
    db.execute(found.text)  # SQLite finds it good
    assert "INSERT INTO t" not in found.text
    assert "UPDATE t" not in found.text
    db.execute(f'INSERT INTO "{table}" VALUES (1, 1)')
    db.execute(f'UPDATE "{table}" SET x = 2')
    db.execute(f'DELETE FROM "{table}"')


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN INSERT INTO t VALUES (1); END",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT RAISE(ABORT, 'list'); END",
        "CREATE TRIGGER a INSTEAD OF INSERT ON v BEGIN INSERT INTO list VALUES (1); END",
    ],
)
def test_what_has_no_local_part_has_no_twin(sql):
    assert twin(sql) is None
