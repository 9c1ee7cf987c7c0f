"""What applications do in the simulation: random SQL over a schema with every kind of row, and schema changes.

Every row made carries a mark in a text column: ``u<user>·`` for rows of a user, ``local·`` for local ones, ``all·`` for
everybody's. A mark of somebody else in a device's file or on its wire is a broken promise (P5, P6).
"""

SCHEMA = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER CHECK (size < 100), mark TEXT, row_owner);
CREATE TABLE part (item INTEGER NOT NULL REFERENCES item, number INTEGER NOT NULL, mark TEXT, value, row_owner,
                   PRIMARY KEY (item, number)) WITHOUT ROWID;
CREATE TABLE word (spelling TEXT NOT NULL PRIMARY KEY, mark TEXT, row_owner TEXT, count INTEGER DEFAULT 0);
CREATE TABLE tally (id INTEGER PRIMARY KEY, what TEXT, mark TEXT, row_owner);
CREATE TABLE setting (name TEXT PRIMARY KEY, value);
CREATE TABLE private_secret (id INTEGER PRIMARY KEY, mark TEXT, row_owner);
CREATE TABLE list (item INTEGER PRIMARY KEY, name TEXT);
CREATE VIRTUAL TABLE words USING fts5 (name);
CREATE TRIGGER list_in AFTER INSERT ON item BEGIN
  INSERT OR REPLACE INTO list VALUES (NEW.id, NEW.name);
  INSERT INTO words (rowid, name) VALUES (NEW.id, NEW.name);
END;
CREATE TRIGGER list_up AFTER UPDATE ON item BEGIN
  DELETE FROM list WHERE item = OLD.id;
  INSERT OR REPLACE INTO list VALUES (NEW.id, NEW.name);
  DELETE FROM words WHERE rowid = OLD.id;
  INSERT INTO words (rowid, name) VALUES (NEW.id, NEW.name);
END;
CREATE TRIGGER list_out AFTER DELETE ON item BEGIN
  DELETE FROM list WHERE item = OLD.id;
  DELETE FROM words WHERE rowid = OLD.id;
END;
CREATE TRIGGER count_items AFTER INSERT ON item WHEN NEW.row_owner IS NOT NULL BEGIN
  INSERT INTO tally (what, mark, row_owner) VALUES ('item ' || NEW.name, NEW.mark, NEW.row_owner);
END;
"""
TABLES = ("item", "part", "word", "tally")

_NAMES = [f"n{n}" for n in range(8)]
_VALUES = [None, 0, 1.5, -0.0, "text", "é\U0001f600", b"\x00\xff", 1 << 62, "long" * 300]

# more than a chunk of a download and a message of entries
_MANY_ROWS = (
    "INSERT OR IGNORE INTO word (spelling, mark)"
    " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT ? || '-' || i, ? FROM n"
)


def _name(r):
    return r.choice(_NAMES)


def device_statement(r, mark):
    """(sql, bindings) of something a device's application may do. ``mark``: that of its user."""
    local = mark_local()
    choices = [
        (4, "INSERT INTO item (name, size, mark) VALUES (?, ?, ?)", (_name(r), r.randrange(6), mark)),
        (1, "INSERT INTO item (name, size, mark) VALUES (?, 200, ?)", (_name(r), mark)),
        (2, "INSERT INTO item (name, size, mark, row_owner) VALUES (?, ?, ?, NULL)", (_name(r), r.randrange(6), local)),
        (
            2,
            "INSERT INTO item (name, size, mark) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET size = excluded.size",
            (_name(r), r.randrange(6), mark),
        ),
        (1, "REPLACE INTO item (name, size, mark) VALUES (?, ?, ?)", (_name(r), r.randrange(6), mark)),
        (2, "UPDATE item SET size = size + ? WHERE name <> ?", (r.randrange(4), _name(r))),
        (1, "UPDATE OR IGNORE item SET name = ? WHERE size = ?", (_name(r), r.randrange(6))),
        (1, "UPDATE item SET name = ? WHERE name = ?", (_name(r), _name(r))),
        (
            1,
            "UPDATE item SET row_owner = this_user(), mark = ? WHERE row_owner IS NULL AND name = ?",
            (mark, _name(r)),
        ),
        (2, "DELETE FROM item WHERE name = ?", (_name(r),)),
        (1, "UPDATE item SET id = id + 1000000 WHERE name = ? AND row_owner = this_user()", (_name(r),)),
        (
            2,
            "INSERT OR IGNORE INTO part (item, number, mark, value) SELECT id, ?, ?, ? FROM item WHERE name > ?",
            (r.randrange(4), mark, r.choice(_VALUES), _name(r)),
        ),
        (
            1,
            "INSERT INTO part (item, number, mark) VALUES ((SELECT max(id) FROM item), ?, ?)",
            (r.randrange(4), mark),
        ),
        (1, "UPDATE OR IGNORE part SET number = number + ?, value = ?", (r.randrange(3), r.choice(_VALUES))),
        (1, "UPDATE part SET value = i.size FROM item AS i WHERE i.id = part.item AND i.size > ?", (r.randrange(5),)),
        (1, "DELETE FROM part WHERE number = ?", (r.randrange(4),)),
        (2, "INSERT OR IGNORE INTO word (spelling, mark) VALUES (?, ?)", (_name(r), mark)),
        (1, "INSERT INTO word (spelling, mark) VALUES (?, ?)", (_name(r), mark)),
        (2, "UPDATE word SET count = count + 1 WHERE spelling >= ?", (_name(r),)),
        (1, "UPDATE OR REPLACE word SET spelling = ? WHERE spelling = ?", (_name(r), _name(r))),
        (1, "DELETE FROM word WHERE spelling = ?", (_name(r),)),
        (0.2, "UPDATE OR IGNORE part SET value = zeroblob(?)", (r.choice((70_000, 1_200_000)),)),
        (0.1, _MANY_ROWS, (_name(r), mark)),
        (1, "DELETE FROM tally WHERE what LIKE ?", (f"%{r.randrange(8)}",)),
        (2, "REPLACE INTO setting VALUES (?, ?)", (_name(r), local)),
        (1, "DELETE FROM setting WHERE name = ?", (_name(r),)),
    ]
    return _pick(r, choices)


def admin_statement(r, users):
    """Something the primary's own application may do."""
    user = r.choice(users)
    choices = [
        (3, "INSERT OR IGNORE INTO item (name, size, mark, row_owner) VALUES (?, 7, 'all·', '*')", (_name(r),)),
        (
            2,
            "INSERT OR IGNORE INTO item (name, size, mark, row_owner) VALUES (?, 8, ?, ?)",
            (_name(r), mark_of(user), user),
        ),
        (2, "INSERT OR IGNORE INTO word (spelling, mark, row_owner) VALUES (?, 'all·', '*')", (_name(r),)),
        (1, "INSERT INTO item (name, size, mark, row_owner) VALUES (?, 1, 'local·', NULL)", (_name(r),)),
        (1, "INSERT INTO private_secret (mark) VALUES ('private·')", ()),
        (2, "UPDATE item SET size = size + 1 WHERE size < 90", ()),
        (1, "UPDATE item SET row_owner = '*', mark = 'all·' WHERE name = ?", (_name(r),)),
        (
            1,
            "UPDATE item SET row_owner = ?, mark = ? WHERE row_owner IS NULL AND name = ?",
            (user, mark_of(user), _name(r)),
        ),
        (1, "DELETE FROM part WHERE item IN (SELECT id FROM item WHERE name = ?)", (_name(r),)),
        (1, "DELETE FROM item WHERE name = ? AND id NOT IN (SELECT item FROM part)", (_name(r),)),
        (1, "DELETE FROM word WHERE spelling = ?", (_name(r),)),
        (1, "ALTER TABLE item ADD COLUMN extra DEFAULT 5", ()),
        (1, "ALTER TABLE item DROP COLUMN extra", ()),
        (1, "CREATE INDEX by_size ON item (size)", ()),
        (1, "DROP INDEX IF EXISTS by_size", ()),
        (1, "CREATE TABLE later (id INTEGER PRIMARY KEY, a, row_owner)", ()),
        (1, "INSERT INTO later (a, row_owner) VALUES (1, '*')", ()),
        (1, "ALTER TABLE later RENAME COLUMN a TO b", ()),
        (1, "DROP TABLE IF EXISTS later", ()),
        (1, "CREATE VIEW big AS SELECT * FROM item WHERE size > 3", ()),
        (1, "DROP VIEW IF EXISTS big", ()),
    ]
    return _pick(r, choices)


def mark_of(user):
    return f"u{user}·"


def mark_local():
    return "local·"


def _pick(r, choices):
    weights = [weight for weight, _, _ in choices]
    _, sql, bindings = r.choices(choices, weights)[0]
    return sql, bindings
