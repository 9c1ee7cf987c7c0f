"""Which primary is dialed next, and after which pause."""

import pytest

from octodb.model.node_uri import Address
from octodb.sync.backoff import ServerList

A, B, C = (Address(name, 1) for name in "abc")


def dial_and_fail(servers, times, jitter=0.0):
    """(address dialed, pause after its failure) of each try."""
    found = []
    for _ in range(times):
        server = servers.next()
        found.append((server.address, servers.failed(server, "refused", jitter)))
    return found


def test_each_is_tried_once_before_there_is_a_pause():
    servers = ServerList((A, B, C))
    assert dial_and_fail(servers, 4) == [(A, 0.0), (B, 0.0), (C, 0.2), (A, 0.0)]


def test_the_pause_doubles_up_to_half_a_minute():
    pauses = [pause for _, pause in dial_and_fail(ServerList((A,)), 12)]
    assert pauses[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6]
    assert pauses[8:] == [30.0] * 4


def test_jitter_cuts_the_pause_by_up_to_half():
    assert [pause for _, pause in dial_and_fail(ServerList((A,)), 2, jitter=1.0)] == [0.1, 0.2]
    assert [pause for _, pause in dial_and_fail(ServerList((A,)), 2, jitter=0.5)] == pytest.approx([0.15, 0.3])


def test_the_pause_stays_bounded_after_years():
    assert dial_and_fail(ServerList((A,)), 5000)[-1] == (A, 30.0)


def test_what_worked_is_tried_first_and_at_once():
    servers = ServerList((A, B))
    dial_and_fail(servers, 1)
    healthy = servers.next()
    servers.worked(healthy, 5.0)
    servers.lasted()
    assert (healthy.address, healthy.last_contact, healthy.last_error) == (B, 5.0, None)
    assert dial_and_fail(servers, 2) == [(B, 0.0), (A, 0.2)], "the lost one once more, then the one that failed before"


def test_a_connection_that_lasted_forgets_the_pauses_and_one_that_did_not_keeps_them():
    servers = ServerList((A,))
    dial_and_fail(servers, 6)
    servers.worked(servers.next(), 1.0)
    assert dial_and_fail(servers, 1)[0][1] == 12.8
    servers.worked(servers.next(), 2.0)
    servers.lasted()
    assert dial_and_fail(servers, 1)[0][1] == 0.2


def test_the_last_error_of_each_is_kept_for_the_status():
    servers = ServerList((A, B))
    servers.failed(servers.next(), "refused", 0.0)
    servers.failed(servers.next(), "no route", 0.0)
    assert [(server.failures, server.last_error) for server in servers.servers] == [(1, "refused"), (1, "no route")]
