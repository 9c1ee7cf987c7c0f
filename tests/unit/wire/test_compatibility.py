"""Devices of years ago speak to primaries of today, and back: version 1 as it was recorded then.

A peer of then decodes with its own definitions, kept word for word in tests/fixtures/protocol1/structs.py.
"""

import json
import pathlib
import types
import typing

import msgspec
import pytest

from octodb.wire import messages as today
from tests.fixtures.protocol1 import structs as then

RECORDED = json.loads((pathlib.Path(then.__file__).parent / "messages.json").read_text())


def structs_of(module):
    found = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct))
    return {kind.__name__: kind for kind in found if kind is not msgspec.Struct}


def numbers_of(module):
    return {name: kind.__struct_config__.tag for name, kind in structs_of(module).items() if kind.__struct_config__.tag}


def agrees(message, fields):
    """Whether ``message`` says what was recorded; fields that came later hold their defaults."""
    for name, value in fields.items():
        found = getattr(message, name)
        if isinstance(value, dict) and "hex" in value:
            assert found == bytes.fromhex(value["hex"]), name
        elif isinstance(value, list) and value and isinstance(found[0], msgspec.Struct):
            assert len(found) == len(value)
            for one, recorded in zip(found, value, strict=True):
                agrees(one, recorded)
        elif name == "rows":
            assert [[cell.hex() if isinstance(cell, bytes) else cell for cell in row] for row in found] == [
                [cell["hex"] if isinstance(cell, dict) else cell for cell in row] for row in value
            ]
        else:
            assert found == value, name


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_sent_then_is_understood_today(name):
    message = today.decode_message(bytes.fromhex(RECORDED[name]["bytes"]))
    assert type(message).__name__ == name
    agrees(message, RECORDED[name]["fields"])


def test_every_message_of_then_was_recorded():
    assert RECORDED.keys() == numbers_of(then).keys()


def test_numbers_stay_and_none_is_used_again():
    now, before = numbers_of(today), numbers_of(then)
    assert {name: now.get(name) for name in before} == before
    new = {number for name, number in now.items() if name not in before}
    assert not new & ({*before.values(), 9, 19})
    assert today.PROTOCOL_VERSION == then.PROTOCOL_VERSION


@pytest.mark.parametrize("name", structs_of(then))
def test_fields_are_added_at_the_end_and_with_a_default(name):
    before, now = structs_of(then)[name], structs_of(today)[name]
    assert now.__struct_fields__[: len(before.__struct_fields__)] == before.__struct_fields__
    added = msgspec.structs.fields(now)[len(before.__struct_fields__) :]
    assert not [field.name for field in added if field.required]


# --- today's messages, at a peer of then -----------------------------------------------------------------


def filled(kind):
    """A value of a type with nothing left out, and nothing that could be taken for a default."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return filled(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return filled(next(argument for argument in arguments if argument is not type(None)))
    if origin in (list, tuple):
        return origin([filled(arguments[0])])
    if origin is dict:
        return {"name": "email"}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(*(filled(field.type) for field in msgspec.structs.fields(kind)))
    plain = {int: 7, str: "text", bytes: b"bytes", bool: True, float: 1.5, typing.Any: "anything"}
    return plain[kind]


def same_as_far_as_then(message, old):
    for name in old.__struct_fields__:
        mine, theirs = getattr(message, name), getattr(old, name)
        if isinstance(mine, list) and mine and isinstance(mine[0], msgspec.Struct):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                same_as_far_as_then(one, other)
        else:
            assert mine == theirs, name


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_sent_today_is_understood_by_peers_of_then(name):
    message = filled(structs_of(today)[name])
    old = then.decode_message(today.encode_message(message))
    assert type(old).__name__ == name
    same_as_far_as_then(message, old)


@pytest.mark.parametrize("module", [then, today], ids=["then", "today"])
def test_fields_behind_those_that_are_known_are_skipped_also_in_lists(module):
    known = [module.PushedTransaction(n, b"hash", b"body") for n in (1, 2)]
    someday = [[*msgspec.structs.astuple(one), "new"] for one in known]
    assert module.decode_message(msgspec.msgpack.encode([11, someday, {"also": "new"}])) == module.Push(known)


def test_a_peer_of_then_refuses_what_it_cannot_know_with_its_own_error():
    with pytest.raises(then.ProtocolError):
        then.decode_message(msgspec.msgpack.encode([99, "a message of someday"]))
