"""Built-in accounts for a primary without a backend of its own: e-mail and password (contract.md §4).

Keeps e-mail and argon2id hash in the table ``private_accounts``, which exists on primaries only. Passwords are
never stored, logged or put into an error. Hashing is argon2-cffi's with its recommended parameters (RFC 9106).
"""

from __future__ import annotations

import json
import re
import threading
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from octodb.attempts import AttemptLimit
from octodb.dbapi.connection import Connection
from octodb.errors import IntegrityError, ProgrammingError
from octodb.model.admissions import DENIED, FAILED
from octodb.sign_in_work import SignInWork

__all__ = ["LOGIN_FIELDS", "Accounts", "normalised_email", "normalised_password"]

LOGIN_FIELDS: Final[list[dict[str, Any]]] = [{"name": "email"}, {"name": "password", "secret": True}]
_PASSWORD_CHARACTERS_MIN: Final = 8
# Of both, before anything is done with them: what is longer is no password that a person or a program keeps.
_PASSWORD_CHARACTERS_MAX: Final = 1000
_EMAIL_CHARACTERS_MAX: Final = 254  # RFC 5321 §4.5.3.1.3, less the brackets
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\Z")


class Accounts:
    """Answers signups and logins on the primary ``connection`` until it is closed.

    ``sign_up`` False: accounts are made with ``add`` only. ``answer`` False: answers nobody; only to look after the
    accounts, in a process beside the one that serves. Raises OperationalError when ``connection`` is no primary.
    """

    def __init__(self, connection: Connection, *, sign_up: bool = True, answer: bool = True) -> None:
        self._hasher = PasswordHasher()
        # of its own: a callback must not land in a transaction that the application has open
        self._db = Connection(connection._require_node().uri, isolation_level=None, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS private_accounts (user_id INTEGER PRIMARY KEY,"
            " email TEXT NOT NULL UNIQUE COLLATE NOCASE, password_hash TEXT NOT NULL,"
            " created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )
        self._lock = threading.Lock()  # two decisions at once must not be inside the connection at once
        self._work: SignInWork | None = None
        if answer:
            self._begin_to_answer(connection, sign_up)

    def _begin_to_answer(self, connection: Connection, sign_up: bool) -> None:
        # verified when the e-mail is unknown, so that the answer takes as long as for a wrong password
        self._nobody = self._hasher.hash("nobody's password")
        self._attempts, self._clock = AttemptLimit(), time.monotonic
        self._work = SignInWork()
        connection.set_login_fields(LOGIN_FIELDS)
        connection.register_function("user_login", 2, self._on_login)
        connection.register_function("user_signup", 2, self._on_signup if sign_up else _no_signup)

    def close(self) -> None:
        """Sign-ins that are being decided are waited for."""
        if self._work is not None:
            self._work.close()
        self._db.close()

    # --- for administrators --------------------------------------------------------------------------

    def add(self, email: str, password: str) -> int:
        """Make an account and return its user id. Raises IntegrityError when the e-mail has one,
        ValueError for an e-mail that is none or a password that is too short, too long or no text."""
        email = normalised_email(email)
        digest = self._hasher.hash(_checked_new(password))
        if self._find(email) is not None:  # so that no user id is used up
            raise _has_one()
        return self._insert(email, digest)

    def set_password(self, email: str, password: str) -> None:
        """Devices that are signed in stay so (``PRAGMA revoke_node`` cuts one off). Raises ValueError as ``add``,
        ProgrammingError where the e-mail has no account."""
        digest = self._hasher.hash(_checked_new(password))
        sql = "UPDATE private_accounts SET password_hash = ? WHERE email = ? RETURNING user_id"
        if not self._run(sql, digest, normalised_email(email)):
            raise _has_none()

    def remove(self, email: str) -> int:
        """Nobody can sign in with it any more; returns the user id it had. The user's rows stay, and so do devices
        that are signed in: revoke them. An account made later with that e-mail is another user's. Raises
        ProgrammingError where the e-mail has no account."""
        found = self._run("DELETE FROM private_accounts WHERE email = ? RETURNING user_id", normalised_email(email))
        if not found:
            raise _has_none()
        return int(found[0][0])

    def accounts(self) -> list[dict[str, Any]]:
        """``user_id``, ``email`` and ``created_at`` (UTC) of each account, the oldest first."""
        names = ("user_id", "email", "created_at")
        found = self._run("SELECT user_id, email, created_at FROM private_accounts ORDER BY user_id")
        return [dict(zip(names, row, strict=True)) for row in found]

    # --- for devices ---------------------------------------------------------------------------------

    def _on_signup(self, data: str, _node_info: str) -> Any:
        assert self._work is not None
        return self._work.run(self._sign_up, data)

    def _on_login(self, data: str, _node_info: str) -> Any:
        assert self._work is not None
        return self._work.run(self._log_in, data)

    def _log_in(self, data: str) -> Any:
        email, password = _read_login(data)
        email, password = _or_nothing(normalised_email, email), _or_nothing(normalised_password, password)
        if wait_s := self._attempts.take(email, self._clock()):
            return _too_many(wait_s)
        user_id = self._verified(email, password)
        return (DENIED, "wrong e-mail address or password") if user_id is None else user_id

    def _sign_up(self, data: str) -> Any:
        """One hash is made or verified, whether the e-mail has an account or not."""
        email, password = _read_login(data)
        try:
            email, password = normalised_email(email), _checked_new(password)
        except ValueError as error:
            return DENIED, str(error)
        if wait_s := self._attempts.take(email, self._clock()):
            return _too_many(wait_s)
        if self._find(email) is None:
            try:
                user_id = self._insert(email, self._hasher.hash(password))
            except IntegrityError:
                pass  # somebody else's sign-up was quicker
            else:
                self._attempts.give_back(email)
                return user_id
        # the same sign-up again, after an answer that was lost on the way, is as good as a login
        known = self._verified(email, password)
        return (DENIED, "this e-mail address has an account already; log in instead") if known is None else known

    def _verified(self, email: str, password: str) -> int | None:
        """The user id if the password is right. Costs one verification for unknown e-mails too."""
        row = self._find(email)
        user_id, digest = (None, self._nobody) if row is None else row
        try:
            self._hasher.verify(digest, password)
        except (VerificationError, InvalidHashError):
            return None
        if user_id is None:
            return None
        self._attempts.give_back(email)
        if self._hasher.check_needs_rehash(digest):
            new = self._hasher.hash(password)
            sql = "UPDATE private_accounts SET password_hash = ? WHERE user_id = ? AND password_hash = ?"
            self._run(sql, new, user_id, digest)
        return user_id

    def _run(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            found: list[Any] = self._db.execute(sql, values).fetchall()
            return found

    def _find(self, email: str) -> tuple[int, str] | None:
        found = self._run("SELECT user_id, password_hash FROM private_accounts WHERE email = ?", email)
        return found[0] if found else None

    def _insert(self, email: str, digest: str) -> int:
        user_id = self._db.new_user_id()
        try:
            sql = "INSERT INTO private_accounts(user_id, email, password_hash) VALUES (?, ?, ?)"
            self._run(sql, user_id, email, digest)
        except IntegrityError:
            raise _has_one() from None
        return user_id


def normalised_email(text: str) -> str:
    """As it is kept and looked for: NFC, lower case, without spaces around it. Raises ValueError for what is none."""
    if len(text) > _EMAIL_CHARACTERS_MAX * 4:
        raise ValueError("that is no e-mail address")
    email = unicodedata.normalize("NFC", text.strip().lower())
    if not _EMAIL.match(email) or len(email) > _EMAIL_CHARACTERS_MAX or not email.isprintable():
        raise ValueError("that is no e-mail address")
    return email


def normalised_password(text: str) -> str:
    """As RFC 8265 §4.2 has it (OpaqueString): NFC, every space as U+0020, case kept, control characters refused.

    Keyboards of different systems write the same letters in different ways. Raises ValueError, which never repeats it.
    """
    if len(text) > _PASSWORD_CHARACTERS_MAX:
        raise ValueError(f"a password has at most {_PASSWORD_CHARACTERS_MAX} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("a password has no control characters")
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in text)
    return unicodedata.normalize("NFC", spaced)


def _checked_new(password: str) -> str:
    password = normalised_password(password)
    if len(password) < _PASSWORD_CHARACTERS_MIN:
        raise ValueError(f"a password needs at least {_PASSWORD_CHARACTERS_MIN} characters")
    return password


def _has_one() -> IntegrityError:
    return IntegrityError("this e-mail address has an account already", hint="set_password() gives it another password")


def _has_none() -> ProgrammingError:
    return ProgrammingError("this e-mail address has no account", hint="list the accounts to see which there are")


def _too_many(wait_s: int) -> tuple[int, str]:
    return FAILED, f"too many attempts for this account; try again in {wait_s} s"


def _no_signup(_data: str, _node_info: str) -> Any:
    return DENIED, "signing up is closed here; ask for an account"


def _read_login(data: str) -> tuple[str, str]:
    """E-mail and password of ``{"email": …, "password": …}`` as they were sent; what is missing is ''."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(fields, dict):
        return "", ""
    email, password = fields.get("email", ""), fields.get("password", "")
    return (email, password) if isinstance(email, str) and isinstance(password, str) else ("", "")


def _or_nothing(normalise: Callable[[str], str], text: str) -> str:
    """For a login: what can be nobody's is refused as what is nobody's, after the same work."""
    try:
        return normalise(text)
    except ValueError:
        return ""
