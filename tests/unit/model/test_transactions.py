"""Hashes of bodies and running hashes of streams: fixed for ever, since devices keep them."""

import pytest

from octodb.errors import ProtocolError
from octodb.model.identities import row_id_range
from octodb.model.transactions import CHAIN_START, Op, body_hash, chain_hash, decode_body, encode_body


def test_a_body_is_the_same_bytes_in_every_version():
    assert encode_body(5, [Op(0, b"\x01"), Op(1, "DDL")]).hex() == "92059292" + "00c40101" + "9201a344444c"


def test_the_hash_of_a_body_is_blake2b_of_16_bytes():
    assert body_hash(b"abc").hex() == "cf4ab791c62b8d2b2109c90275287816"


def test_the_running_hash_depends_on_everything_before():
    one = chain_hash(CHAIN_START, 1, body_hash(b"a"))
    assert len({one, chain_hash(CHAIN_START, 2, body_hash(b"a")), chain_hash(CHAIN_START, 1, body_hash(b"b"))}) == 3
    assert chain_hash(one, 2, body_hash(b"c")) != chain_hash(CHAIN_START, 2, body_hash(b"c"))


@pytest.mark.parametrize(
    "data", [b"", b"\xc0", b"\x90", b"\x92\x00\x00", b"\x92\x00\x91\x92\x00\x05", b"\x92\x00\x91\x91\x00"]
)
def test_what_is_no_body(data):
    with pytest.raises(ProtocolError, match="not a transaction body"):
        decode_body(data)


def test_each_node_has_row_ids_of_its_own():
    first, last = row_id_range(7)
    assert (first, last) == (7 << 32 | 1, (8 << 32) - 1)
    assert row_id_range(8)[0] > last
    assert row_id_range(2**31 - 1)[1] == 2**63 - 1
