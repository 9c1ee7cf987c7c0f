"""A primary and a device in one thread, without network (tests/properties/offline_world.py)."""

from dataclasses import dataclass
from itertools import count

import apsw
import pytest

from octodb.log.embedded_log import PushedBody, PushRequest
from octodb.model.identities import Role
from octodb.model.transactions import Op, body_hash, encode_body
from octodb.storage.shapes import Shapes
from octodb.storage.splitting import split_changeset
from tests.properties.offline_world import Device, Primary

SCHEMA = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size CHECK (size < 100), row_owner);
CREATE TABLE part (number INTEGER NOT NULL, text TEXT NOT NULL, item REFERENCES item, row_owner,
                   PRIMARY KEY (text, number)) WITHOUT ROWID;
CREATE TABLE setting (name PRIMARY KEY, value);
CREATE TABLE private_note (id INTEGER PRIMARY KEY, text, row_owner);
INSERT INTO item VALUES (1, 'mine', 0, 2), (2, 'everybody''s', 0, '*'), (3, 'another''s', 0, 5), (4, 'local', 0, NULL);
INSERT INTO part VALUES (1, 'a', 1, 2), (2, 'b', 2, '*'), (3, 'c', 3, 5);
INSERT INTO setting VALUES ('colour', 'blue');
"""


@dataclass
class Pushing:
    """Pushes bodies as a device of user 2 that no application's rules hold back."""

    primary: Primary
    device: Device

    def __post_init__(self):
        self.numbers = count(1)

    def push(self, *bodies, first=None, knew_rejected=-1):
        """The outcomes of bodies, under the next nonces or from ``first``."""
        numbers = self.numbers if first is None else count(first)
        pushed = [PushedBody(next(numbers), body_hash(body), body, knew_rejected) for body in bodies]
        (outcome,), _ = self.primary.log.append([PushRequest(self.device.record.node_id, 2, pushed)])
        return outcome.outcomes

    def recorded(self, sql, *, prepare="", as_patchset=False, honest=False):
        """The changes of statements run on a copy of the primary that has no rules at all.

        ``prepare`` runs before anything is recorded. ``honest``: as a device puts it into its outbox.
        """
        copy = apsw.Connection(":memory:")
        with copy.backup("main", self.primary.engine, "main") as backup:
            backup.step()
        copy.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        copy.execute(prepare)
        session = apsw.Session(copy, "main")
        session.attach()
        copy.execute(sql)
        changes = session.patchset() if as_patchset else session.changeset()
        session.close()
        if honest:
            changes = split_changeset(copy, Shapes.read(copy), changes, Role.SECONDARY, 2).parts[2]
        copy.close()
        return changes

    def body(self, sql, **how):
        return encode_body(self.primary.log.head(), [Op(0, self.recorded(sql, **({"honest": True} | how)))])

    def rows_of_others(self):
        """What a device of user 2 must never change."""
        found = [self.primary.rows(f"SELECT * FROM {table}") for table in ("setting", "private_note", "_octodb_meta")]
        for table in ("item", "part"):
            sql = f"SELECT * FROM {table} WHERE coalesce(CAST(row_owner AS TEXT), '') NOT IN ('2', '2.0')"
            found.append(self.primary.rows(sql))
        return found


@pytest.fixture
def pushing(tmp_path):
    primary = Primary(tmp_path / "primary.db", SCHEMA)
    device = Device(tmp_path / "device.db", primary, 2)
    yield Pushing(primary, device)
    device.close()
    primary.close()
