"""The texts of authorization services: what a primary asks, and every form of an answer (contract.md §7)."""

import json

import pytest

from octodb.errors import ProtocolError
from octodb.model.admissions import Admission
from octodb.model.identities import Role
from octodb.wire.service_messages import LEADER, TEXT_BYTES_MAX, TextSplitter, framed, read_answer, request_text

KEY = bytes(range(32))
NAME = KEY.hex()


def answer(**fields):
    return read_answer(json.dumps({"pubkey": NAME, **fields}).encode())


def request(data, action="user_login", info='{"hostname": "phone"}'):
    return request_text(action, data, KEY, info)


def test_the_leader_says_so_to_the_letter():
    assert framed(LEADER) == b'\x00\x00\x00\x0f{"leader":true}'


def test_a_request_names_its_device_twice_and_tells_of_it():
    assert json.loads(request('{"email": "ann"}')) == {
        "action": "user_login",
        "data": {"email": "ann"},
        "public_key": NAME,
        "pubkey": NAME,
        "hostname": "phone",
    }
    assert list(json.loads(request("x"))) == ["action", "data", "public_key", "pubkey", "hostname"]
    assert "data" not in json.loads(request("", "new_node"))


@pytest.mark.parametrize("data", ['{"a": [1, 2.50, 12345678901234567890]}', " [1]\n", '{"x": "\\ud83d\\ude00 ü"}'])
def test_data_that_is_json_is_embedded_to_the_letter(data):
    assert f'"data":{data},'.encode() in request(data)
    assert json.loads(request(data))["data"] == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "token.abc",
        "0123",
        "123456789012345678901",
        '"text"',
        "true",
        "null",
        '{key: "value"}',
        '{"a": NaN}',
        "{} {}",
        '{"a": -Infinity}',
        "[" * 100000,
        "{'a': 1}",
        '{"a": 01}',
        '{"a": "\n"}',
        "Zoë 🐙 \x00",
    ],
)
def test_anything_else_is_a_text_that_every_json_reader_can_read(data):
    text = request(data)
    assert json.loads(text, parse_constant=pytest.fail)["data"] == data


def test_a_device_decides_none_of_our_fields():
    info = '{"action": "new_node", "data": 1, "public_key": "x", "pubkey": "y", "leader": true, "type": "secondary"}'
    found = json.loads(request("real", info=info))
    assert (found["action"], found["data"], found["public_key"], found["pubkey"]) == ("user_login", "real", NAME, NAME)
    assert json.loads(request("real", info='{"a": NaN}')) == json.loads(request("real", info="{}"))


@pytest.mark.parametrize(
    ("fields", "admission"),
    [
        ({"user_id": 7}, Admission(KEY, user_id=7)),
        ({"user_id": 0}, Admission(KEY, user_id=0)),
        ({"user_id": "7"}, Admission(KEY, user_id=7)),
        ({"user_id": 2**63 - 1}, Admission(KEY, user_id=2**63 - 1)),
        ({"node_type": "secondary"}, Admission(KEY, node_type=Role.SECONDARY)),
        ({"node_type": "primary", "node_id": 9}, Admission(KEY, node_type=Role.PRIMARY, node_id=9)),
        ({"execute": ["INSERT 1", "INSERT 2"]}, Admission(KEY, execute=("INSERT 1", "INSERT 2"))),
        ({"execute": "INSERT 1"}, Admission(KEY, execute=("INSERT 1",))),
        ({"user_id": 7, "execute": ["UPDATE"]}, Admission(KEY, user_id=7, execute=("UPDATE",))),
        ({"node_type": "secondary", "execute": ["I"]}, Admission(KEY, node_type=Role.SECONDARY, execute=("I",))),
        ({"find": "SELECT"}, Admission(KEY, find="SELECT")),
        ({"find": "SELECT", "execute": []}, Admission(KEY, find="SELECT")),
    ],
)
def test_answers_that_let_a_device_in(fields, admission):
    found = answer(**fields)
    assert (found.admission, found.problem) == (admission, "")
    renamed = read_answer(json.dumps({"public_key": NAME.upper(), **fields}).encode())
    assert renamed.admission == admission


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"user_id": -1}, -1, ""),
        ({"user_id": -1, "reason": "wrong password"}, -1, "wrong password"),
        ({"user_id": "-1"}, -1, ""),
        ({"user_id": -2}, -2, ""),
        ({"user_id": -3}, -3, ""),
        ({"node_type": -1}, -1, ""),  # so the npm package sends what new_node returns
        ({"node_type": "unauthorized"}, -1, ""),
        ({"node_type": "async"}, -2, ""),
        ({"user_id": -1, "reason": "x" * 1000}, -1, "x" * 500),
    ],
)
def test_answers_that_do_not(fields, code, reason):
    found = answer(**fields)
    assert (found.admission, found.code, found.reason, found.problem) == (None, code, reason, "")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "neither user_id nor node_type"),
        ({"user_id": None}, "neither user_id nor node_type"),
        ({"user_id": True}, "an id is a number"),
        ({"user_id": 1.5}, "an id is a number"),
        ({"user_id": -4}, "an id is a number"),
        ({"user_id": 2**63}, "an id is a number"),
        ({"user_id": "9" * 5000}, "an id is a number"),
        ({"user_id": "seven"}, "an id is a number"),
        ({"user_id": [7]}, "an id is a number"),
        ({"node_type": "boss"}, "neither primary nor secondary"),
        ({"node_type": 3}, "neither primary nor secondary"),
        ({"node_type": "secondary", "node_id": -1}, "node_id"),
        ({"node_type": "secondary", "user_id": 7}, "exclude each other"),
        ({"execute": [1]}, "no list of SQL"),
        ({"execute": {"sql": "x"}}, "no list of SQL"),
        ({"find": ["SELECT"]}, "find is no text"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_failed_request(fields, problem):
    found = answer(**fields)
    assert (found.public_key, found.admission, found.code) == (KEY, None, -3)
    assert problem in found.problem


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"[]",
        b"7",
        b"{}",
        b"\xff",
        b'{"pubkey": 7}',
        b'{"pubkey": "ab"}',
        b'{"pubkey": "zz"}',
        b"[" * 100_000,
        b'{"pubkey": "' + b"ab" * 33 + b'", "user_id": 1}',
    ],
)
def test_an_answer_about_nobody(text):
    with pytest.raises(ProtocolError, match="an answer"):
        read_answer(text)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_texts_come_out_whole_however_they_were_cut(size):
    texts = [b"", b"one", b"x" * 300, LEADER]
    stream = b"".join(map(framed, texts))
    splitter = TextSplitter()
    found = [text for i in range(0, len(stream), size) for text in splitter.feed(stream[i : i + size])]
    assert found == texts


def test_a_length_beyond_the_bound_is_refused_before_anything_is_kept():
    with pytest.raises(ProtocolError, match="announced"):
        TextSplitter().feed((TEXT_BYTES_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="announced"):
        TextSplitter().feed(b"HTTP/1.1 400 Bad Request")
