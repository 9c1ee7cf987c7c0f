"""A primary and its devices in one thread, without network (tests/properties/offline_world.py)."""

import pytest

from tests.properties.offline_world import Device, Primary


@pytest.fixture
def world(tmp_path):
    """Make a primary with a schema and a device for each of ``users``; all are closed at the end."""
    nodes = []

    def make(schema, users=(2,)):
        nodes.append(Primary(tmp_path / "primary.db", schema))
        nodes.extend(Device(tmp_path / f"device{i}.db", nodes[0], user) for i, user in enumerate(users))
        return nodes

    yield make
    for node in reversed(nodes):
        node.close()
