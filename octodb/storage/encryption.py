"""Encryption at rest: finding the key of a file, and unlocking each connection before it reads anything.

Owns all that is peculiar to SQLite3 Multiple Ciphers (https://utelle.github.io/SQLite3MultipleCiphers/), which comes as
the other build of the module ``apsw``. Keys are in no message here.
"""

from __future__ import annotations

import difflib
import os
import stat
from dataclasses import replace
from typing import Final

import apsw

from octodb.errors import ConfigError, DatabaseError
from octodb.installation import INSTALL_ENCRYPTION, can_encrypt, why_no_encryption
from octodb.model.file_key import FileKey, Secret
from octodb.model.node_uri import NodeUri, check_network_addresses, check_network_key
from octodb.storage.apsw_errors import coded

__all__ = [
    "CIPHERS",
    "KEY_VARIABLE",
    "NETWORK_KEY_VARIABLE",
    "find_key",
    "open_connection",
    "unlock",
    "why_not_readable",
]

KEY_VARIABLE: Final = "OCTODB_KEY"
NETWORK_KEY_VARIABLE: Final = "OCTODB_NETWORK_KEY"
# Those of SQLite3MC that are not weak; a later one is known to the library before it is to this list.
CIPHERS: Final = ("chacha20", "sqlcipher", "aes256cbc", "aes128cbc", "ascon128", "aegis")
_KEY_FILE_BYTES_MAX: Final = 64 * 1024
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


def find_key(uri: NodeUri) -> NodeUri:
    """``uri`` with the keys themselves where it named a file, or nothing and the environment has them.

    Raises ConfigError: no key or two, a key file that cannot be read or that others can read, the installed apsw is
    the build without encryption, a cipher that it has not; a network key that could be guessed.
    """
    return _find_network_key(uri) if uri.cipher is None else _find_network_key(_find_file_key(uri))


def _find_network_key(uri: NodeUri) -> NodeUri:
    """A key without ``cipher=`` is the network's; so is OCTODB_NETWORK_KEY, where there are addresses."""
    secret = uri.network_key
    if uri.cipher is None and uri.secret is not None:
        secret = uri.secret
        if secret.source == "key_file":
            secret = Secret("key", _read_key_file(secret.reveal()))
    from_environment = os.environ.get(NETWORK_KEY_VARIABLE)
    if secret is None and from_environment and (uri.bind or uri.connect):
        check_network_addresses(uri, NETWORK_KEY_VARIABLE)
        secret = Secret("network_key", from_environment)
    if secret is None:
        return uri
    check_network_key(secret)
    return replace(uri, network_key=secret, secret=uri.secret if uri.cipher is not None else None)


def _find_file_key(uri: NodeUri) -> NodeUri:
    assert uri.cipher is not None
    _require_encryption(uri.path)
    _require_cipher(uri.cipher)
    from_environment = os.environ.get(KEY_VARIABLE)
    if uri.secret is not None and from_environment:
        raise ConfigError(
            f"two keys for {uri.path}: {uri.secret.source}= and the environment variable {KEY_VARIABLE}",
            hint=f"keep one: take {uri.secret.source}= out of the URI, or unset {KEY_VARIABLE}",
        )
    if uri.secret is None:
        if not from_environment:
            raise ConfigError(
                f"cipher={uri.cipher} without a key for {uri.path}",
                hint=f"name a file that holds it: key_file=PATH, or set {KEY_VARIABLE}; or key= or hexkey= in the URI",
            )
        return replace(uri, secret=Secret("key", from_environment))
    if uri.secret.source == "key_file":
        return replace(uri, secret=Secret("key", _read_key_file(uri.secret.reveal())))
    return uri


def open_connection(path: str, flags: int, key: FileKey | None) -> apsw.Connection:
    """A connection that is unlocked. ``path`` may be a URI of SQLite's. Raises apsw.Error where it cannot be opened."""
    db = apsw.Connection(path, flags=flags)
    try:
        unlock(db, key)
    except BaseException:
        db.close(True)
        raise
    return db


def unlock(db: apsw.Connection, key: FileKey | None) -> None:
    """Give a connection the key of its file, as the very first thing that is done with it.

    A wrong key is noticed by the first read (apsw.NotADBError). Temporary tables, sorts and statement journals are not
    encrypted by SQLite3MC, so they stay in memory.
    """
    if key is None:
        return
    cursor = db.cursor()
    cursor.execute(f"PRAGMA cipher = {apsw.format_sql_value(key.cipher)}").fetchall()
    name = "hexkey" if key.secret.source == "hexkey" else "key"
    # not kept among the prepared statements, whose texts stay in memory
    cursor.execute(f"PRAGMA {name} = {apsw.format_sql_value(key.secret.reveal())}", can_cache=False).fetchall()
    cursor.execute("PRAGMA temp_store = MEMORY")


def why_not_readable(path: str, key: FileKey | None) -> DatabaseError:
    """What to say where SQLite says "file is not a database"."""
    if key is None:
        text = f"{path} is not a SQLite database, or it is encrypted"
        hint = (
            "if it is encrypted, add cipher= and key_file= (or key=, hexkey=) to its URI; otherwise name another file:"
            " a new one is made where there is none. If it was one, it is damaged"
        )
    elif _is_plain(path):
        text = f"{path} is not encrypted, and the URI has cipher={key.cipher}"
        hint = "leave out cipher= and the key, or make an encrypted database of it: octodb encrypt"
    else:
        text = f"{path} cannot be read with this key and cipher={key.cipher}"
        hint = "check the key, and the cipher that the file was made with; or it is no database, or damaged"
    error = DatabaseError(text, hint=hint)
    coded(error, apsw.SQLITE_NOTADB)
    return error


def _is_plain(path: str) -> bool:
    """Asked of SQLite: closing a file that was opened besides would give up SQLite's locks on it in this process
    (https://sqlite.org/howtocorrupt.html §2.2)."""
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return False
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except apsw.NotADBError:
        return False
    except apsw.Error:
        return True  # it has a header that SQLite understands
    finally:
        db.close(True)
    return True


def _require_encryption(path: str) -> None:
    if not can_encrypt():
        raise ConfigError(
            f"{path} cannot be encrypted or decrypted here: {why_no_encryption()}",
            hint=f"{INSTALL_ENCRYPTION} (docs/encryption.md); nothing was opened",
        )


def _require_cipher(cipher: str) -> None:
    scratch = apsw.Connection(":memory:")
    try:
        known = [name for name in dict.fromkeys((cipher, *CIPHERS)) if _knows(scratch, name)]
    finally:
        scratch.close()
    if cipher not in known:
        near = difflib.get_close_matches(cipher, known, n=1, cutoff=0.4)
        hint = f"did you mean cipher={near[0]}?" if near else f"the installed library has {', '.join(known)}"
        raise ConfigError(f"cipher={cipher} is not known", hint=hint)


def _knows(db: apsw.Connection, cipher: str) -> bool:
    try:
        db.execute(f"PRAGMA cipher = {apsw.format_sql_value(cipher)}").fetchall()
    except apsw.Error:
        return False
    return True


def _read_key_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        hint = "write the key into a file that only you can read, and name that"
        raise ConfigError(f"cannot read key_file={path}: {error.strerror}", hint=hint) from None
    if os.name == "posix" and mode & _READABLE_BY_OTHERS and stat.S_ISREG(mode):
        raise ConfigError(f"others can read key_file={path}", hint=f"chmod 600 {path}")
    try:
        text = content.decode()
        key = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    except UnicodeDecodeError:
        raise ConfigError(
            f"key_file={path} is not UTF-8 text", hint="write a passphrase into it, for example hexadecimal digits"
        ) from None
    if not key or "\0" in key or len(content) > _KEY_FILE_BYTES_MAX:
        raise ConfigError(
            f"key_file={path} is empty, longer than {_KEY_FILE_BYTES_MAX:,} bytes, or holds a NUL character",
            hint="write a passphrase into it",
        )
    return key
