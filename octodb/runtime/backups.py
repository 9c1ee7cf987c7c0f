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
from octodb.model.identities import Role
from octodb.model.node_uri import parse_node_uri
from octodb.runtime.engine_lock import EngineLock
from octodb.storage.backups import check_copy, copy_node_file, start_anew
from octodb.storage.new_file import NewFile, sync_folder

__all__ = ["backup", "check_backup", "restore"]

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

    ``database`` is a path or a node URI. The copy is one consistent state, mode 0600: it holds the node's private key.
    Before ``target`` exists the copy was read to its end (see ``check_backup``). Writers are not held up; their WAL
    grows until the copy is done. ``progress(pages_done, pages_in_all)`` is called every 4 MB; what it raises ends it.

    Raises ConfigError (``target`` exists, ``database`` is no node's or of a later octodb), OperationalError (no room;
    the disk), DatabaseError (``database`` is damaged). A device's backup is a copy with the same identity: once the
    device has synced again, a primary recognises it as one.
    """
    source = _path_of(database)
    if not os.path.isfile(source):
        raise ConfigError(f"there is no file {source}", hint="name the database of a primary or a device")
    with NewFile(os.fspath(target)) as new:
        copy_node_file(source, new.partial, progress)
        report = check_copy(new.partial, new.path)
        new.publish()
    return report


def check_backup(path: str | os.PathLike[str]) -> BackupReport:
    """Read a backup to its end: SQLite's integrity_check, format, role, the running hashes of a primary's log.

    Raises ConfigError (no node's file, or of a later octodb), DatabaseError (damaged, or no database).
    """
    return check_copy(os.fspath(path))


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
    is kept beside the new one as ``….before-restore``.

    Raises ConfigError (``target`` exists, or the backup is no node's), OperationalError (``target`` is in use; no
    room), DatabaseError (the backup is damaged). Nothing is changed then.
    """
    source, path = os.path.realpath(copy), _path_of(target)
    if not os.path.isfile(source):
        raise ConfigError(f"there is no file {source}", hint="name a file that octodb backup made")
    if source == path:
        raise ConfigError(f"{path} is the backup itself", hint="name another file to restore it to")
    report = check_copy(source)
    _check_target(path, force=force)
    with NewFile(path, replacing=force) as new:
        lock = EngineLock(path)
        if not lock.acquire():
            raise OperationalError(
                f"{path} is in use: a process serves or syncs it",
                hint="stop it first; octodb status shows which process that is",
            )
        try:
            copy_node_file(source, new.partial, progress, at_rest=True)
            if report.role is Role.PRIMARY:
                start_anew(new.partial, secrets.token_bytes(_EPOCH_BYTES), time.time())
            restored = check_copy(new.partial, path)
            _check_target(path, force=force)
            set_aside = _set_aside(path)
            new.publish()
        finally:
            lock.release()
    return replace(restored, set_aside=set_aside)


def _path_of(database: str | os.PathLike[str]) -> str:
    return os.path.realpath(parse_node_uri(os.fspath(database)).path)


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


def _set_aside(path: str) -> str:
    """Rename the database at ``path`` with what belongs to it; '' where there is none."""
    for number in itertools.count(1):
        name = f"{path}.before-restore" if number == 1 else f"{path}.before-restore-{number}"
        if not os.path.lexists(name):
            break
    moved = ""
    for suffix in (*_SIDECARS, ""):
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, name + suffix)
            moved = name
    sync_folder(path)
    return moved
