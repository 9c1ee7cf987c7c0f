"""inserts_plain_values: which INSERTs need no look at what they wrote."""

import pytest

from octodb.sql.inserts import InsertTarget, inserts_plain_values

TARGET = InsertTarget("t", ("id", "a", "b", "row_owner"), "id", "row_owner")


def is_plain(sql):
    return inserts_plain_values(sql, lambda schema, table: TARGET if table == "t" else None)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (a, b) VALUES (?, ?)",
        "insert into t (id, a) values (NULL, :name), (5, 'it''s'), (x'00', 1.5)",
        "INSERT INTO main.t (a) VALUES ($1)",
    ],
)
def test_parameters_and_literals_are_plain(sql):
    assert is_plain(sql) == "t"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?, ?, ?, ?)",  # the owner is given by position
        "INSERT INTO t (a, row_owner) VALUES (?, '*')",
        'INSERT INTO t (a, "ROW_OWNER") VALUES (?, ?)',
        "INSERT OR REPLACE INTO t (id, a) VALUES (1, 2)",
        "REPLACE INTO t (id, a) VALUES (1, 2)",
        "INSERT INTO t (id, a) VALUES (1, 2) ON CONFLICT DO UPDATE SET a = 3",
        "INSERT INTO t (a) VALUES (CAST(x'ff' AS TEXT))",
        "INSERT INTO t (a) VALUES (1 + 1)",
        "INSERT INTO t (a) VALUES (name)",
        "INSERT INTO t (a) SELECT a FROM t",
        "INSERT INTO t (a) DEFAULT VALUES",
        "INSERT INTO t (a) VALUES (1) RETURNING id",
        "WITH x AS (SELECT 1) INSERT INTO t (a) VALUES (1)",
        "INSERT INTO other (a) VALUES (1)",
        "UPDATE t SET a = 1",
        "INSERT INTO t (a) VALUES (1",
    ],
)
def test_everything_else_is_looked_at(sql):
    assert is_plain(sql) is None
