"""Backups of nodes, taken while they run, and nodes made from backups.

Owns names of files, the engine lock, clock and randomness; what is in a copy is ``storage/backups.py``'s.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from octodb.errors import ConfigError, OperationalError
from octodb.model.backup_report import BackupReport
from octodb.model.file_key import FileKey
from octodb.model.identities import Role
from octodb.model.node_uri import NodeUri, parse_node_uri
from octodb.runtime.engine_lock import EngineLock
from octodb.storage.backups import check_copy, copy_node_file, start_anew
from octodb.storage.encryption import find_key
from octodb.storage.new_file import NewFile, sync_folder

__all__ = ["backup", "check_backup", "free_name", "restore"]

_EPOCH_BYTES: Final = 16
# Moved in this order: a WAL without its database is found again, a database without its WAL lacks transactions.
_SIDECARS: Final = ("-wal", "-journal", "-shm")


def backup(
    database: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> BackupReport:
    """Copy a node's database to the new file ``target``, while any process serves, syncs or writes it.

    ``database`` is a path or a node URI; an encrypted one's has its ``cipher=`` and key, and the copy gets the same.
    It is one consistent state, mode 0600: it holds the node's private key. Before ``target`` exists the copy was read
    to its end (see ``check_backup``). Writers are not held up; their WAL grows until the copy is done.
    ``progress(pages_done, pages_in_all)`` is called every 4 MB; what it raises ends it.

    Raises ConfigError (``target`` exists, ``database`` is no node's or of a later octodb), OperationalError (no room;
    the disk), DatabaseError (``database`` is damaged). A device's backup is a copy with the same identity: once the
    device has synced again, a primary recognises it as one.
    """
    uri = _resolved(database)
    source = uri.path
    if not os.path.isfile(source):
        raise ConfigError(f"there is no file {source}", hint="name the database of a primary or a device")
    key = find_key(uri).file_key
    with NewFile(os.fspath(target)) as new:
        copy_node_file(source, new.partial, progress, key=key)
        report = check_copy(new.partial, new.path, key=key)
        new.publish()
    return report


def check_backup(path: str | os.PathLike[str]) -> BackupReport:
    """Read a backup to its end: SQLite's integrity_check, format, role, the running hashes of a primary's log.

    ``path`` of an encrypted one is its URI with ``cipher=`` and key. Raises ConfigError (no node's file, or of a later
    octodb), DatabaseError (damaged, or no database, or another key).
    """
    uri = find_key(parse_node_uri(os.fspath(path)))
    return check_copy(uri.path, key=uri.file_key)


def restore(
    copy: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> BackupReport:
    """Make the database ``target`` from a backup, which stays as it is.

    A primary gets a new epoch, by which devices see that it went back, and leaves out ids that may have been given
    since the backup (design.md §5); a device's file comes back as it was. ``force``: a database that is there already
    is kept beside the new one as ``….before-restore``. An encrypted backup needs ``cipher=`` and key in the URI of
    either; the database gets the same.

    Raises ConfigError (``target`` exists, or the backup is no node's), OperationalError (``target`` is in use; no
    room), DatabaseError (the backup is damaged). Nothing is changed then.
    """
    from_uri, to_uri = _resolved(copy), _resolved(target)
    source, path = from_uri.path, to_uri.path
    if not os.path.isfile(source):
        raise ConfigError(f"there is no file {source}", hint="name a file that octodb backup made")
    if source == path:
        raise ConfigError(f"{path} is the backup itself", hint="name another file to restore it to")
    key = _one_key(from_uri, to_uri)
    report = check_copy(source, key=key)
    _check_target(path, force=force)
    with NewFile(path, replacing=force) as new:
        lock = EngineLock(path)
        if not lock.acquire():
            raise OperationalError(
                f"{path} is in use: a process serves or syncs it",
                hint="stop it first; octodb status shows which process that is",
            )
        try:
            copy_node_file(source, new.partial, progress, at_rest=True, key=key)
            if report.role is Role.PRIMARY:
                start_anew(new.partial, secrets.token_bytes(_EPOCH_BYTES), time.time(), key)
            restored = check_copy(new.partial, path, key=key)
            _check_target(path, force=force)
            moved = _set_aside(path)
            new.publish()
        finally:
            lock.release()
    return replace(restored, set_aside=moved)


def _resolved(database: str | os.PathLike[str]) -> NodeUri:
    uri = parse_node_uri(os.fspath(database))
    return replace(uri, path=os.path.realpath(uri.path))


def _one_key(copy: NodeUri, target: NodeUri) -> FileKey | None:
    """The key of a backup, which its URI names or that of what is made from it."""
    found = [find_key(uri).file_key for uri in (copy, target) if uri.cipher is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise ConfigError(
            "the URIs of the backup and of the database name different keys",
            hint="name the backup's key alone; octodb encrypt gives the database another one afterwards",
        )
    return found[0] if found else None


def _check_target(path: str, *, force: bool) -> None:
    """Also a WAL alone is in the way: SQLite would play it into whatever database gets its name."""
    found = [name for name in (path, *(path + suffix for suffix in _SIDECARS)) if os.path.lexists(name)]
    if found and not force:
        raise ConfigError(
            f"{found[0]} exists already",
            hint="restore to another file, or with force (--force): the old one is kept beside it",
        )
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder", hint="name a file in it")


def free_name(path: str, why: str) -> str:
    """``path.why``, or with a number where that exists."""
    for number in itertools.count(1):
        name = f"{path}.{why}" if number == 1 else f"{path}.{why}-{number}"
        if not os.path.lexists(name):
            break
    return name


def _set_aside(path: str) -> str:
    """Rename the database at ``path``, with what belongs to it; '' where there is none."""
    name, moved = free_name(path, "before-restore"), ""
    for suffix in (*_SIDECARS, ""):
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, name + suffix)
            moved = name
    sync_folder(path)
    return moved
