"""SQLite that syncs: ``import octodb as sqlite3``.

The package is the ``sqlite3`` module's interface (DB-API 2.0), plus the errors that syncing can raise.
A plain file name opens a plain SQLite database; a URI with ``node=`` makes it a node.
"""

from __future__ import annotations

import octodb.installation  # noqa: F401 # isort: skip - before what needs the module that it looks at

import sys
import warnings

import apsw

from octodb import dbapi2
from octodb.accounts import Accounts
from octodb.dbapi2 import *  # noqa: F403 - the names that dbapi2.__all__ lists
from octodb.errors import (
    ConfigError,
    ConnectError,
    InsecureWarning,
    NotAuthorizedError,
    NotReadyError,
    OwnershipError,
    ProtocolError,
    SyncError,
    SyncTimeout,
    TransactionRejected,
)
from octodb.model.backup_report import BackupReport
from octodb.model.node_uri import NodeUri, parse_node_uri
from octodb.runtime.backups import backup, check_backup, restore
from octodb.runtime.device_info import VERSION
from octodb.runtime.diagnosis import Finding, diagnose
from octodb.runtime.encrypting import encrypt
from octodb.runtime.nodes import read_status, remembered_uri

__version__ = VERSION
keywords: frozenset[str] = frozenset(apsw.keywords)
"""SQLite's keywords, in capitals."""

__all__ = [
    "Accounts",
    "BackupReport",
    "ConfigError",
    "ConnectError",
    "Finding",
    "InsecureWarning",
    "NodeUri",
    "NotAuthorizedError",
    "NotReadyError",
    "OwnershipError",
    "ProtocolError",
    "SyncError",
    "SyncTimeout",
    "TransactionRejected",
    "__version__",
    "backup",
    "check_backup",
    "diagnose",
    "encrypt",
    "keywords",
    "parse_node_uri",
    "read_status",
    "remembered_uri",
    "restore",
]
__all__ += dbapi2.__all__

if sys.version_info < (3, 12):

    def __getattr__(name: str) -> object:
        """OptimizedUnicode, deprecated, for as long as sqlite3 has it."""
        if name == "OptimizedUnicode":
            warnings.warn(
                "OptimizedUnicode is deprecated and will be removed in Python 3.12. Since Python 3.3 it has"
                " simply been an alias for 'str'.",
                DeprecationWarning,
                stacklevel=2,
            )
            return str
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
