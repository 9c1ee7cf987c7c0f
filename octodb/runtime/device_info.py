"""What a node tells a primary of itself, and the randomness and keys a new node starts with."""

from __future__ import annotations

import json
import platform
import secrets
import socket
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octodb.storage.database import NodeSeed

__all__ = ["VERSION", "collect_node_info", "new_node_seed"]

VERSION = "0.1.0"


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
    key = Ed25519PrivateKey.generate()
    raw = serialization.Encoding.Raw
    return NodeSeed(
        private_key=key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()),
        public_key=key.public_key().public_bytes(raw, serialization.PublicFormat.Raw),
        database_id=secrets.token_bytes(16),
        epoch=secrets.token_bytes(16),
        now=time.time(),
    )
