"""Built-in accounts for a primary without a backend of its own: e-mail and password (contract.md §4).

Keeps e-mail and argon2id hash in the table ``private_accounts``, which exists on primaries only. Passwords are
never stored, logged or echoed. Hashing is argon2-cffi's with its recommended parameters (RFC 9106).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from octodb.dbapi.connection import Connection
from octodb.errors import IntegrityError

__all__ = ["LOGIN_FIELDS", "Accounts"]

LOGIN_FIELDS: Final[list[dict[str, Any]]] = [{"name": "email"}, {"name": "password", "secret": True}]
_REFUSED: Final = -1
_PASSWORD_CHARACTERS_MIN: Final = 8
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\Z")


class Accounts:
    """Answers signups and logins on the primary ``connection`` until it is closed.

    ``sign_up`` False: accounts are made with ``add`` only. Raises OperationalError when ``connection`` is no primary.
    """

    def __init__(self, connection: Connection, *, sign_up: bool = True) -> None:
        self._hasher = PasswordHasher()
        # of its own: a callback must not land in a transaction that the application has open
        self._db = Connection(connection._require_node().uri, isolation_level=None, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS private_accounts (user_id INTEGER PRIMARY KEY,"
            " email TEXT NOT NULL UNIQUE COLLATE NOCASE, password_hash TEXT NOT NULL,"
            " created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )
        # verified when the e-mail is unknown, so that the answer takes as long as for a wrong password
        self._nobody = self._hasher.hash("nobody's password")
        connection.set_login_fields(LOGIN_FIELDS)
        connection.register_function("user_login", 2, self._on_login)
        connection.register_function("user_signup", 2, self._on_signup if sign_up else _no_signup)

    def add(self, email: str, password: str) -> int:
        """Make an account and return its user id. Raises IntegrityError when the e-mail has one,
        ValueError for an e-mail that is none or a password of less than 8 characters."""
        email = email.strip()
        if not _EMAIL.match(email):
            raise ValueError("that is no e-mail address")
        if len(password) < _PASSWORD_CHARACTERS_MIN:
            raise ValueError(f"a password needs at least {_PASSWORD_CHARACTERS_MIN} characters")
        digest = self._hasher.hash(password)
        user_id = self._db.new_user_id()
        self._db.execute(
            "INSERT INTO private_accounts(user_id, email, password_hash) VALUES (?, ?, ?)",
            (user_id, email, digest),
        )
        return user_id

    def close(self) -> None:
        self._db.close()

    def _on_signup(self, data: str, _node_info: str) -> Any:
        email, password = _read_login(data)
        try:
            return self.add(email, password)
        except IntegrityError:
            # the same sign-up again, after an answer that was lost on the way, is as good as a login
            if isinstance(user_id := self._on_login(data, _node_info), int):
                return user_id
            return _REFUSED, "this e-mail address has an account already; log in instead"
        except ValueError as error:
            return _REFUSED, str(error)

    def _on_login(self, data: str, _node_info: str) -> Any:
        email, password = _read_login(data)
        row = self._db.execute(
            "SELECT user_id, password_hash FROM private_accounts WHERE email = ?", (email.strip(),)
        ).fetchone()
        user_id, digest = (None, self._nobody) if row is None else row
        try:
            self._hasher.verify(digest, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            user_id = None
        if user_id is None:
            return _REFUSED, "wrong e-mail address or password"
        return user_id


def _no_signup(_data: str, _node_info: str) -> Any:
    return _REFUSED, "signing up is closed here; ask for an account"


def _read_login(data: str) -> tuple[str, str]:
    """E-mail and password of ``{"email": …, "password": …}``; what is missing is ''."""
    try:
        fields = json.loads(data)
    except ValueError:
        return "", ""
    if not isinstance(fields, dict):
        return "", ""
    email, password = fields.get("email", ""), fields.get("password", "")
    return (email, password) if isinstance(email, str) and isinstance(password, str) else ("", "")
