"""Encrypting a database that is there, giving it another key, and taking the encryption off: at rest, by a whole copy.

SQLite3MC could do it in place (PRAGMA rekey), but other connections would be left with the old key (tried). A copy that
was read to its end takes the file's place instead.
"""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from dataclasses import replace
from typing import Final

import apsw

from octodb.errors import ConfigError, DatabaseError, OperationalError
from octodb.model.file_key import FileKey
from octodb.model.node_uri import NodeUri, parse_node_uri
from octodb.runtime.backups import free_name
from octodb.runtime.engine_lock import EngineLock
from octodb.storage.apsw_errors import translated
from octodb.storage.backups import check_copy
from octodb.storage.encryption import find_key, open_connection, why_not_readable
from octodb.storage.lookup import one_value
from octodb.storage.meta import is_node_file
from octodb.storage.new_file import NewFile, check_room

__all__ = ["encrypt"]

_SUFFIX: Final = "before-encryption"
_BUSY_MS: Final = 2000


def encrypt(database: str | os.PathLike[str], to: str) -> str:
    """Encrypt ``database``, a node's or a plain one, as the URI ``to`` of the same file says, and return where the file
    as it was is kept (``….before-encryption``): that one is to be deleted when the new one was opened.

    ``database`` is a path, or the URI with the ``cipher=`` and key that it has now. ``to`` without ``cipher=`` takes
    the encryption off. A node stays the same node; a device makes row ids of another range until its primary has
    spoken, as any file that was moved.

    Raises ConfigError (another file, the same key, no such file, no key, no encryption installed), OperationalError
    (somebody has the file open; no room; an index needs a function of the application), DatabaseError (the key is not
    the file's, or the file is damaged). Nothing is changed then.
    """
    now, wanted = _resolved(os.fspath(database)), _resolved(to)
    if not os.path.isfile(now.path):
        raise ConfigError(f"there is no file {now.path}", hint="name a database; a new one is encrypted as it is made")
    if now.path != wanted.path:
        raise ConfigError(
            f"two files: {now.path} and {wanted.path}", hint="name one file in both, as it is and as it shall be"
        )
    old, new = find_key(now).file_key, find_key(wanted).file_key
    if old == new:
        raise ConfigError(
            f"{now.path}: nothing would change" + (", both URIs have the same key" if new else ""),
            hint="add cipher=chacha20 and key_file=PATH to the second",
        )
    lock = EngineLock(now.path)
    if not lock.acquire():
        raise _in_use(now.path)
    try:
        return _replace_by_copy(now.path, old, new)
    except apsw.NotADBError:
        raise why_not_readable(now.path, old) from None
    except apsw.BusyError:
        raise _in_use(now.path) from None
    except apsw.Error as error:
        raise translated(error) from None
    except OSError as error:
        raise OperationalError(
            f"{now.path} could not be replaced: {error.strerror}",
            hint="check the disk, and that you may write to the folder; it needs a file system with hard links",
        ) from None
    finally:
        lock.release()


def _replace_by_copy(path: str, old: FileKey | None, new: FileKey | None) -> str:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    with (
        contextlib.closing(open_connection(_sqlite_uri(path), flags, old)) as db,
        NewFile(path, replacing=True) as made,
    ):
        db.set_busy_timeout(_BUSY_MS)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # leaving WAL mode takes that nobody else has the file open; from then on nobody can read it
        if one_value(db, "PRAGMA journal_mode = DELETE") != "delete":
            raise _in_use(path)
        is_node = is_node_file(db)
        check_room(path, one_value(db, "PRAGMA page_count") * one_value(db, "PRAGMA page_size"))
        # unlike the backup API it copies between pages with and without room for a signature; row ids stay
        # (https://sqlite.org/src/file/src/insert.c, xferOptimization)
        db.execute("VACUUM INTO ?", (_keyed_uri(made.partial, new),), can_cache=False)
        _check(made.partial, path, new, is_node=is_node)
        kept = free_name(path, _SUFFIX)
        os.link(path, kept)  # so that there is a whole file under the name at any moment
        made.replace()
    return kept


def _check(copy: str, path: str, key: FileKey | None, *, is_node: bool) -> None:
    if is_node:
        check_copy(copy, path, key=key)
        return
    with contextlib.closing(open_connection(copy, apsw.SQLITE_OPEN_READONLY, key)) as db:
        if one_value(db, "PRAGMA quick_check(1)") != "ok":
            raise DatabaseError(f"{path} is damaged", hint="nothing was changed; restore a backup")


def _keyed_uri(path: str, key: FileKey | None) -> str:
    if key is None:
        return _sqlite_uri(path) + "?key="  # without it the copy gets the key of the original
    name = "hexkey" if key.secret.source == "hexkey" else "key"
    return f"{_sqlite_uri(path)}?cipher={key.cipher}&{name}={urllib.parse.quote(key.secret.reveal(), safe='')}"


def _sqlite_uri(path: str) -> str:
    return "file:" + urllib.parse.quote(path)


def _resolved(text: str) -> NodeUri:
    uri = parse_node_uri(text)
    return replace(uri, path=os.path.realpath(uri.path))


def _in_use(path: str) -> OperationalError:
    return OperationalError(
        f"{path} is in use by another connection or process",
        hint="end what serves, syncs or reads it first; nothing was changed",
    )
