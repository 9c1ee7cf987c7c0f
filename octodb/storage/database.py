"""Opening the database file of a node: settings of its connections, its meta tables, its role.

Makes no keys and reads no clock: what a new file needs of these is given to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import apsw

from octodb.errors import ConfigError, OperationalError
from octodb.model.file_key import FileKey
from octodb.model.identities import ADMIN_ID, FORMAT_NUMBER, AuthMode, NodeRecord, Role
from octodb.model.node_uri import NodeUri, parse_node_uri
from octodb.sql.ddl import parse_ddl
from octodb.sql.tokens import quote_name
from octodb.storage.encryption import open_connection, why_not_readable
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta, NodeTable, create_meta_tables, is_node_file
from octodb.storage.schema_rules import check_replicable, incomplete_triggers, index_owners
from octodb.storage.shapes import Shapes
from octodb.storage.upgrades import upgrade_node_file
from octodb.storage.wal import WAL_PAGES_MAX

__all__ = [
    "FileNotice",
    "NodeSeed",
    "close_in_child",
    "connect_file",
    "engine_connection",
    "open_node_file",
    "reading_connection",
    "sync_wal",
]

# Short: the storage thread has other work meanwhile, and the engine asks again.
_ENGINE_BUSY_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class NodeSeed:
    """What a new node file starts with. Keys are raw Ed25519 keys of 32 bytes, ids 16 random bytes."""

    private_key: bytes
    public_key: bytes
    database_id: bytes
    epoch: bytes
    now: float


@dataclass(frozen=True, slots=True)
class FileNotice:
    """``whereabouts``: text that is another one for a copy of the file; '' when nothing is known.

    ``provisional_id``: a random node id of the upper half, in whose range the file makes row ids should it be a copy.
    """

    whereabouts: str
    provisional_id: int


def connect_file(uri: NodeUri, timeout_s: float) -> apsw.Connection:
    """A connection for an application. ``uri`` comes from find_key(). Raises DatabaseError or OperationalError naming
    the file."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    if not uri.read_only:
        _make_private_file(uri.path)
    try:
        db = open_connection(uri.sqlite_uri, flags, uri.file_key)
        db.set_busy_timeout(int(timeout_s * 1000))
        # the header is read here, so that a file of another kind is told apart now and not at the first SELECT
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not uri.read_only:
            _use_wal(db, uri)
    except apsw.NotADBError:
        raise why_not_readable(uri.path, uri.file_key) from None
    except apsw.CantOpenError:
        raise OperationalError(f"cannot open {uri.path}", hint=_why_not_open(uri.path)) from None
    return db


def open_node_file(
    db: apsw.Connection,
    uri: NodeUri,
    seed: Callable[[], NodeSeed],
    notice: FileNotice | None = None,
    engine_runs: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Make, check or upgrade the meta tables of a node file and return their single values.

    ``notice``: what shows whether it is a copy of another device's file. ``engine_runs``: whether another process runs
    the engine of this file, asked when it has an earlier format.
    Raises ConfigError when the file has another role or authorization mode, or the format of a later octodb;
    OperationalError when it cannot be upgraded now.
    """
    assert uri.role is not None
    if not is_node_file(db):
        if uri.read_only:
            raise ConfigError(f"{uri.path} is no node yet", hint="open it once without mode=ro")
        db.execute("BEGIN IMMEDIATE")
        try:
            if not is_node_file(db):  # another process may have been first
                _make_node(db, uri, seed())
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    meta = Meta(db)
    found = meta.check_format(earlier=not uri.read_only)
    _check_role(uri, meta.get_all())
    if found < FORMAT_NUMBER:
        upgrade_node_file(db, uri.path, uri.role, engine_runs, uri.file_key)
    values = meta.get_all()
    if notice is not None and not uri.read_only and _is_elsewhere(values, notice):
        # two copies that write offline must not hand out the same row ids (design.md §8)
        values["provisional_id"] = notice.provisional_id
        meta.set(provisional_id=notice.provisional_id, whereabouts=notice.whereabouts)
        meta.bump_generation()
    if not uri.read_only and (remembered := str(_to_remember(uri, values.get("uri")))) != values.get("uri"):
        meta.set(uri=remembered)
    return values


def engine_connection(path: str, role: Role, key: FileKey | None = None) -> apsw.Connection:
    """A connection for the engine: no triggers, no foreign key actions; on a primary each commit is fsynced."""
    db = open_connection(path, apsw.SQLITE_OPEN_READWRITE, key)
    db.set_busy_timeout(_ENGINE_BUSY_MS)
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA recursive_triggers = ON")
    _set_wal(db, role)
    for name, arguments in (
        ("this_user", 0),
        ("this_node", 0),
        ("octo_next_id", 1),
        ("octo_checked_owner", 1),
    ):
        # named in views and triggers that the engine replays; it never runs them
        db.create_scalar_function(name, _never, arguments)
    return db


def reading_connection(path: str, key: FileKey | None = None) -> apsw.Connection:
    """A connection that only reads, for snapshots and looks at the queue."""
    db = open_connection(path, apsw.SQLITE_OPEN_READWRITE, key)
    db.set_busy_timeout(_ENGINE_BUSY_MS)
    db.execute("PRAGMA query_only = ON")
    return db


def close_in_child(db: apsw.Connection) -> bool:
    """This is a forked child: close its copy of a connection, without a trace in the file that its parent uses.

    SQLite keeps its locks by file for the whole process. As long as a copy is open a connection that the child opens
    takes the parent's locks for its own, and what it commits can be lost (sqlite.org/howtocorrupt.html §2.6, tried).
    False: it cannot be closed, because a transaction was writing, whose traces are shared, or a thread was inside.
    """
    try:
        if db.txn_state() == apsw.SQLITE_TXN_WRITE:
            return False
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.close(True)
    except apsw.ConnectionClosedError:
        return True
    except apsw.Error:
        return False
    return True


def sync_wal(path: str) -> None:
    """Put what is committed on the disk itself: on a device COMMIT alone survives a killed process, not a power cut."""
    try:
        descriptor = os.open(path + "-wal", os.O_RDONLY)
    except FileNotFoundError:
        return  # checkpointed, and a checkpoint syncs
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_elsewhere(values: dict[str, Any], notice: FileNotice) -> bool:
    """Whether this device's file was somewhere else when a primary or an opening last looked."""
    known = values.get("whereabouts", "")
    return bool(
        values.get("ready")
        and known
        and notice.whereabouts
        and known != notice.whereabouts
        and values["role"] == Role.SECONDARY
    )


def _make_private_file(path: str) -> None:
    """A new file is for its user only: it will hold the private key. SQLite gives -wal and -shm the same mode."""
    with contextlib.suppress(OSError):  # it exists, or SQLite will say why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _never(*_: object) -> None:
    raise AssertionError("the engine runs no triggers")


def _use_wal(db: apsw.Connection, uri: NodeUri) -> None:
    mode = one_value(db, "PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise OperationalError(
            f"{uri.path} cannot be used in WAL mode (it stays in {mode} mode)",
            hint="put it on a local disk: network file systems have no shared memory",
        )
    assert uri.role is not None
    _set_wal(db, uri.role)
    db.execute("PRAGMA recursive_triggers = ON")


def _set_wal(db: apsw.Connection, role: Role) -> None:
    # P1: a primary's commit survives a power cut; a device syncs the WAL before it first sends a transaction
    db.execute(f"PRAGMA synchronous = {'FULL' if role is Role.PRIMARY else 'NORMAL'}")
    if role is Role.SECONDARY:
        db.wal_autocheckpoint(WAL_PAGES_MAX)


def _make_node(db: apsw.Connection, uri: NodeUri, seed: NodeSeed) -> None:
    assert uri.role is not None
    shapes = Shapes.read(db)
    if uri.role is Role.SECONDARY and shapes.tables:
        raise ConfigError(
            f"{uri.path} already has tables ({', '.join(sorted(s.name for s in shapes.tables.values())[:3])}…);"
            " a device starts with an empty database, which it downloads",
            hint="name a new file, or make this one the primary: node=primary",
        )
    check_replicable(db, shapes)
    create_meta_tables(db, uri.role)
    meta = Meta(db)
    meta.note_format()
    meta.set(
        role=str(uri.role),
        private_key=seed.private_key,
        public_key=seed.public_key,
        database_id=seed.database_id,
        created_at=seed.now,
    )
    if uri.role is Role.PRIMARY:
        index_owners(db, shapes)
        for text in incomplete_triggers(db, shapes):
            db.execute(f"DROP TRIGGER main.{quote_name(parse_ddl(text).name)}")
            db.execute(text)
        meta.set(
            epoch=seed.epoch,
            auth=str(uri.auth or AuthMode.NONE),
            identity_counter=ADMIN_ID,
            node_id=ADMIN_ID,
            user_id=ADMIN_ID,
            ready=1,
        )
        NodeTable(db).add(NodeRecord(ADMIN_ID, ADMIN_ID, Role.PRIMARY, seed.public_key), "{}", seed.now)


def _to_remember(uri: NodeUri, remembered: str | None) -> NodeUri:
    """The URI for the next opening by the path alone: one without addresses keeps those that were given before."""
    if remembered is None or uri.bind or uri.connect:
        return uri
    before = parse_node_uri(remembered)
    tls = uri.tls if uri.tls.parameters() else before.tls
    return replace(
        uri,
        bind=before.bind,
        connect=before.connect,
        auth=uri.auth or before.auth,
        tls=tls,
        authorizer=uri.authorizer or before.authorizer,
    )


def _check_role(uri: NodeUri, values: dict[str, Any]) -> None:
    found = Role(values["role"])
    if found is not uri.role:
        raise ConfigError(
            f"{uri.path} is a {found}; the URI opens it as a {uri.role}",
            hint=f"use node={found}, or name another file",
        )
    if found is Role.PRIMARY and uri.auth is not None and values["auth"] != uri.auth:
        raise ConfigError(
            f"{uri.path} was made with auth={values['auth']}; the URI says auth={uri.auth}",
            hint=f"use auth={values['auth']}, or leave auth= out; a file keeps its mode",
        )


def _why_not_open(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        return f"there is no folder {folder}: make it first"
    if os.path.isdir(path):
        return "that is a folder: name a file in it"
    if not os.access(folder, os.W_OK):
        return f"you cannot read and write files in {folder}; also to be read only a node needs its -wal and -shm there"
    return f"check that you may read and write {path} and its folder"
