"""The ``_octodb_*`` tables: the one package that names them and holds all their SQL.

Each class wraps one connection and one concern; none begins or commits a transaction, so that what they write
is part of the caller's. docs/storage.md describes the tables.
"""

from octodb.storage.meta.log_tables import LogTables
from octodb.storage.meta.node_table import NodeTable
from octodb.storage.meta.outbox import Outbox, OutboxRow, RejectedRow
from octodb.storage.meta.tables import (
    META_PREFIX,
    create_meta_tables,
    create_owner_index,
    is_node_file,
    upgrade_meta_tables,
)
from octodb.storage.meta.values import Meta

__all__ = [
    "META_PREFIX",
    "LogTables",
    "Meta",
    "NodeTable",
    "Outbox",
    "OutboxRow",
    "RejectedRow",
    "create_meta_tables",
    "create_owner_index",
    "is_node_file",
    "upgrade_meta_tables",
]
