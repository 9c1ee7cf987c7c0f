"""What a node tells a primary of itself, and the randomness and keys a new node starts with."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import socket
import time
import uuid

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octodb.model.identities import NODE_ID_MAX, PROVISIONAL_ID_MIN, VERSION
from octodb.storage.database import FileNotice, NodeSeed

__all__ = ["VERSION", "collect_node_info", "new_key_pair", "new_node_seed", "notice_of", "whereabouts"]


def collect_node_info(public_key: bytes, node_type: str, extra: str) -> str:
    """JSON with public_key and type (contract.md §4) and what an administrator wants to tell devices apart by."""
    info = {
        "public_key": public_key.hex(),
        "pubkey": public_key.hex(),
        "type": node_type,
        "hostname": socket.gethostname(),
        "os": platform.system(),
        "os_version": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "octodb": VERSION,
        "extra": extra,
    }
    return json.dumps(info)


def new_node_seed() -> NodeSeed:
    """Fresh keys and ids (design.md §8: one key pair a node, made at first open)."""
    private_key, public_key = new_key_pair()
    return NodeSeed(
        private_key=private_key,
        public_key=public_key,
        database_id=secrets.token_bytes(16),
        epoch=secrets.token_bytes(16),
        now=time.time(),
    )


def new_key_pair() -> tuple[bytes, bytes]:
    """A private and a public Ed25519 key, 32 raw bytes each."""
    key = Ed25519PrivateKey.generate()
    raw = serialization.Encoding.Raw
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return private, key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)


def whereabouts(path: str) -> str:
    """Text that a copy of the file has otherwise: its inode and device, and the machine. A moved file has it, too:
    then a device hands out row ids of another range until a primary has spoken, which costs nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_ino}:{found.st_dev}:{_machine_id()}"


def notice_of(path: str) -> FileNotice:
    """For ``open_node_file``: the identity of the file that is there, and a random id should it be a copy."""
    return FileNotice(whereabouts(path), PROVISIONAL_ID_MIN + secrets.randbelow(NODE_ID_MAX - PROVISIONAL_ID_MIN))


def _machine_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    return f"{uuid.getnode():x}"
