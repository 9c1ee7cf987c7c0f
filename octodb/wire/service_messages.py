"""The protocol of authorization services (contract.md §7): JSON texts, each behind a 4-byte big-endian length.

The npm package ``@octodb/backend-service`` speaks it, and what that sends and takes is the rule. Bytes and values only:
who dials whom is not known here.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from octodb.errors import ProtocolError
from octodb.model.admissions import DENIED, FAILED, LATER, Admission, ServiceAnswer
from octodb.model.identities import Role

__all__ = ["LEADER", "TEXT_BYTES_MAX", "TextSplitter", "framed", "read_answer", "request_text"]

# Bounds what a peer that sends nonsense makes this process hold; answers are SQL statements at the longest.
TEXT_BYTES_MAX: Final = 1024 * 1024
# Compared byte by byte by existing services.
LEADER: Final = b'{"leader":true}'
_LENGTH_BYTES: Final = 4
_PUBLIC_KEY_BYTES: Final = 32
_REASON_CHARACTERS_MAX: Final = 500
_ID_MAX: Final = 0x7FFFFFFFFFFFFFFF  # what SQLite can store
_CODES: Final = {DENIED, LATER, FAILED}
_WORDS: Final = {"unauthorized": DENIED, "async": LATER}  # the original's documentation names them for new_node


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(_LENGTH_BYTES, "big") + text


class TextSplitter:
    """Bytes in, whole texts out, however the bytes were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises ProtocolError for a length above TEXT_BYTES_MAX: nothing more can be read from the stream then."""
        buffer = self._buffer
        buffer += data
        texts: list[bytes] = []
        position = 0
        while len(buffer) - position >= _LENGTH_BYTES:
            start = position + _LENGTH_BYTES
            length = int.from_bytes(buffer[position:start], "big")
            if length > TEXT_BYTES_MAX:
                raise ProtocolError(f"a message of {length:,} bytes is announced; {TEXT_BYTES_MAX:,} are the most")
            if len(buffer) < start + length:
                break
            texts.append(bytes(buffer[start : start + length]))
            position = start + length
        del buffer[:position]
        return texts


def request_text(action: str, data: str, public_key: bytes, node_info: str) -> bytes:
    """What a service is asked. ``node_info``: a JSON object of the device's own making, so it decides none of the
    other fields."""
    key = public_key.hex()
    fields = dict.fromkeys(("action", "data", "public_key", "pubkey"))  # first, as a reader expects them
    fields |= _object(node_info)
    fields |= {"action": action, "data": _embedded(data), "public_key": key, "pubkey": key}
    if action == "new_node":
        del fields["data"]
    return msgspec.json.encode(fields)


def _object(text: str) -> dict[str, Any]:
    """Strict JSON only: a service in JavaScript dies of NaN and of what else Python's reader lets pass."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _embedded(data: str) -> msgspec.Raw | str:
    """An object or a list goes as it is, to the letter. A number does not: it may be a code with zeros in front, or
    larger than JavaScript's."""
    if data.lstrip(" \t\r\n")[:1] not in {"{", "["}:
        return data
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return data
    return msgspec.Raw(data.encode())


def read_answer(text: bytes) -> ServiceAnswer:
    """Raises ProtocolError for a text that does not say which device it is about. What else is wrong with it is the
    answer's ``problem``: that request has failed."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("an answer is not JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolError("an answer is no JSON object")
    key = _public_key(fields)
    try:
        return _read(key, fields)
    except ProtocolError as problem:
        return ServiceAnswer(key, code=FAILED, problem=str(problem))


def _public_key(fields: dict[str, Any]) -> bytes:
    text = fields.get("pubkey", fields.get("public_key"))
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != _PUBLIC_KEY_BYTES:
        raise ProtocolError("an answer has no pubkey, the key that the request came with")
    return key


def _read(key: bytes, fields: dict[str, Any]) -> ServiceAnswer:
    reason = fields.get("reason")
    reason = reason[:_REASON_CHARACTERS_MAX] if isinstance(reason, str) else ""
    user_id = _user_id(fields.get("user_id"))
    node_type, code = _node_type(fields.get("node_type"))
    if user_id is not None and user_id < 0:
        code = user_id
    if code:
        return ServiceAnswer(key, code=code, reason=reason)
    execute, find = _statements(fields.get("execute")), fields.get("find") or ""
    if not isinstance(find, str):
        raise ProtocolError("find is no text")
    if user_id is not None and node_type is not None:
        raise ProtocolError("user_id and node_type exclude each other")
    if user_id is None and node_type is None and not execute and not find:
        raise ProtocolError("it has neither user_id nor node_type, find or execute")
    node_id = _user_id(fields.get("node_id")) or 0
    if node_id < 0:
        raise ProtocolError(f"node_id {node_id} is none")
    return ServiceAnswer(key, Admission(key, user_id, node_type, node_id, execute, find))


def _user_id(value: object) -> int | None:
    """An id, or one of the codes. A text of digits is one, too: the npm package passes on what its handler returns."""
    if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdigit():
        value = int(value) if len(value) <= len(str(_ID_MAX)) else _ID_MAX + 1
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not (0 <= value <= _ID_MAX or value in _CODES):
        raise ProtocolError("an id is a number from 0 on that 63 bits hold; -1, -2 and -3 are refusals")
    return value


def _node_type(value: object) -> tuple[Role | None, int]:
    """A role, or one of the codes; 0 when it is none."""
    if value is None:
        return None, 0
    if isinstance(value, str) and value in set(Role):
        return Role(value), 0
    if isinstance(value, str) and value in _WORDS:
        return None, _WORDS[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in _CODES:
        return None, value
    raise ProtocolError("node_type is neither primary nor secondary")


def _statements(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ProtocolError("execute is no list of SQL statements")
    return tuple(value)
