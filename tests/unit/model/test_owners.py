"""What a row_owner may be, and the row ids of a node."""

import pytest

from octodb.errors import OwnershipError
from octodb.model.identities import row_id_range
from octodb.model.owners import normalise_owner


@pytest.mark.parametrize(
    ("stored", "owner"),
    [(None, None), ("*", "*"), (3, 3), ("3", 3), (3.0, 3), ("03", 3), (1 << 40, 1 << 40)],
)
def test_a_stored_value_means_an_owner(stored, owner):
    found = normalise_owner(stored)
    assert (found, type(found)) == (owner, type(owner))


@pytest.mark.parametrize(
    "stored", [0, -1, 2.5, float("inf"), float("nan"), "", "bob", "**", "-3", "3.5", " 3", "²", "٣", b"3", b"*"]
)
def test_anything_else_is_nobody(stored):
    with pytest.raises(OwnershipError, match="row_owner"):
        normalise_owner(stored)


def test_the_row_ids_of_nodes_never_meet():
    assert row_id_range(1) == ((1 << 32) + 1, (1 << 32) + 0xFFFFFFFF)
    assert row_id_range(7)[1] < row_id_range(8)[0]
    assert row_id_range((1 << 31) - 1)[1] < 1 << 63
