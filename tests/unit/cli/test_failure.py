"""Errors become three lines and an exit code."""

import pytest

import octodb
from octocli.failure import Exit, Failure, failure_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (octodb.ConfigError("x"), 2),
        (octodb.NotAuthorizedError("x"), 4),
        (octodb.ConnectError("x"), 5),
        (octodb.SyncTimeout("x"), 5),
        (octodb.TransactionRejected("x"), 6),
        (octodb.NotReadyError("x"), 1),
        (octodb.OperationalError("x"), 1),
        (octodb.IntegrityError("x"), 1),
        (OSError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert failure_of(error).code == code


def test_while_opening_sqlites_errors_are_about_the_file():
    assert failure_of(octodb.DatabaseError("file is not a database"), opening=True).code == Exit.CANNOT_OPEN
    assert failure_of(octodb.ConnectError("port in use"), opening=True).code == Exit.NETWORK
    assert failure_of(octodb.ConfigError("no"), opening=True).code == Exit.USAGE


def test_a_damaged_file_is_known_later_too():
    error = octodb.DatabaseError("file is not a database")
    error.sqlite_errorname = "SQLITE_NOTADB"
    failure = failure_of(error)
    assert failure.code == Exit.CANNOT_OPEN
    assert failure.fix


def test_error_why_and_fix():
    error = octodb.ConnectError("cannot reach any primary (2 tried)", hint="check connect= in the URI")
    error.__cause__ = OSError("h1:1234 connection refused")
    assert failure_of(error).lines() == [
        "error: cannot reach any primary (2 tried)",
        "  why: h1:1234 connection refused",
        "  fix: check connect= in the URI",
    ]


def test_empty_lines_are_left_out():
    assert Failure("x").lines() == ["error: x"]


def test_what_to_do_about_a_database_that_is_not_ready_is_said_in_commands():
    fix = failure_of(octodb.NotReadyError("not ready", hint="conn.wait_ready()")).fix
    assert "octodb connect" in fix
    assert "conn." not in fix


def test_a_failure_stays_what_it_is():
    failure = Failure("x", code=Exit.REJECTED)
    assert failure_of(failure) is failure
