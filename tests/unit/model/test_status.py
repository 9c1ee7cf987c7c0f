"""The JSON shape of sync_status: programs read these keys (design.md §11)."""

import json

import pytest

from octodb.model.status import AuthStatus, LogStatus, NodeState, QueueStatus, SnapshotStatus, SyncStatus


def test_a_new_device_says_that_it_is_nobody_and_has_nothing():
    status = SyncStatus().to_dict()
    assert (status["node_id"], status["db_is_ready"], status["state"]) == (0, False, "offline")
    assert status["checksum_ok"] is None
    assert (status["engine"], status["snapshot"], status["bind"]) == (None, None, None)
    assert "servers" not in status
    assert "nodes" not in status


def test_the_whole_shape():
    status = SyncStatus(
        node_id=7,
        user_id=3,
        public_key="ab",
        db_is_ready=True,
        state=NodeState.IN_SYNC,
        connected=True,
        server="tcp://h1:1234",
        rtt_ms=0.4,
        auth=AuthStatus("user", False, False, {"code": "denied", "reason": "no"}, ({"name": "email"},)),
        queue=QueueStatus(17, 0, None, 1),
        log=LogStatus("e0", 1204, 1204),
        snapshot=SnapshotStatus(10, 20, 300),
        bytes_in=1,
        bytes_out=2,
        bind=("tcp://0.0.0.0:1",),
        nodes=5,
        authorizer={"service": "tcp://h:1", "connected": True, "waiting": 0, "last_error": None},
        last_contact_s=0.2,
        checksum_ok=True,
        engine_pid=1,
        engine_age_s=0.0,
        last_error="x",
        servers=({"server": "tcp://h1:1234"},),
        encrypted=True,
    ).to_dict()
    assert status == {
        "node_id": 7,
        "user_id": 3,
        "node_type": "secondary",
        "public_key": "ab",
        "db_is_ready": True,
        "state": "in sync",
        "connected": True,
        "server": "tcp://h1:1234",
        "rtt_ms": 0.4,
        "auth": {
            "mode": "user",
            "required": False,
            "pending": False,
            "error": {"code": "denied", "reason": "no"},
            "fields": [{"name": "email"}],
        },
        "downstream_state": "in sync",
        "upstream_state": "in sync",
        "transactions": {"last_nonce": 17, "pending": 0, "oldest_pending_s": None, "rejected": 1},
        "log": {"epoch": "e0", "applied": 1204, "head": 1204},
        "snapshot": {"rows": 10, "rows_total": 20, "bytes": 300},
        "bytes": {"in": 1, "out": 2},
        "bind": ["tcp://0.0.0.0:1"],
        "last_contact_s": 0.2,
        "checksum_ok": True,
        "engine": {"pid": 1, "age_s": 0.0},
        "last_error": "x",
        "encrypted": True,
        "servers": [{"server": "tcp://h1:1234"}],
        "nodes": 5,
        "authorizer": {"service": "tcp://h:1", "connected": True, "waiting": 0, "last_error": None},
    }


def test_the_json_has_the_text_that_programs_search_for():
    assert '"db_is_ready": true' in json.dumps(SyncStatus(db_is_ready=True).to_dict())


def test_in_sync_with_something_to_send_is_syncing():
    status = SyncStatus(state=NodeState.IN_SYNC, log=LogStatus("e", 5, 5)).with_queue(QueueStatus(3, 1, 0.5))
    assert status.state is NodeState.SYNCING
    shown = status.to_dict()
    assert (shown["upstream_state"], shown["downstream_state"]) == ("syncing", "in sync")


def test_entries_still_to_come_show_downstream():
    shown = SyncStatus(state=NodeState.SYNCING, log=LogStatus("e", 5, 9)).to_dict()
    assert (shown["upstream_state"], shown["downstream_state"]) == ("in sync", "syncing")


@pytest.mark.parametrize("state", [NodeState.OFFLINE, NodeState.REVOKED, NodeState.ERROR, NodeState.DOWNLOADING])
def test_a_queue_does_not_hide_why_nothing_moves(state):
    shown = SyncStatus(state=state).with_queue(QueueStatus(3, 2, 1.0)).to_dict()
    assert (shown["state"], shown["upstream_state"], shown["downstream_state"]) == (state, state, state)
    assert shown["transactions"]["pending"] == 2
