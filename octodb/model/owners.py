"""Whose a row is: the values of a ``row_owner`` column (contract.md §5). Never reads a database."""

from __future__ import annotations

from typing import Final

from octodb.errors import OwnershipError

__all__ = ["EVERYBODY", "OWNER_COLUMN", "Owner", "normalise_owner"]

Owner = int | str | None

EVERYBODY: Final = "*"
OWNER_COLUMN: Final = "row_owner"


def normalise_owner(value: object) -> Owner:
    """The owner that a stored column value means: a user id, '*' or None.

    A column's affinity may have turned 3 into '3' or 3.0; both mean user 3.
    Raises OwnershipError for anything else ('bob', 2.5, a blob, 0, -1): such a row could reach nobody.
    """
    if value is None or value == EVERYBODY:
        return EVERYBODY if value == EVERYBODY else None
    if isinstance(value, int) and value > 0:
        return value
    if isinstance(value, float) and value.is_integer() and value > 0:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and int(value) > 0:
        return int(value)
    raise OwnershipError(
        f"row_owner is neither a user id, '*' nor NULL: {value!r}"[:200],
        hint="give a user id (this_user() is your own), '*' for everybody (primaries only) or NULL (this node only)",
    )
