"""What a primary bears: connections of strangers, sign-ins that fail, requests that come too often."""

import pytest

from octodb.sync import strangers
from octodb.sync.allowance import Allowance
from octodb.sync.sign_in_limits import SignInLimits
from octodb.sync.strangers import Strangers, network_of

KEY = b"k" * 32


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8:0:0::/64"),
        ("fe80::1%eth0", "fe80:0:0:0::/64"),
        ("::1", "0:0:0:0::/64"),
        ("", ""),
    ],
)
def test_addresses_that_one_customer_has_count_as_one(host, network):
    assert network_of(host) == network


def test_the_oldest_stranger_of_an_address_gives_way(monkeypatch):
    monkeypatch.setattr(strangers, "UNPROVED_OF_ADDRESS_MAX", 2)
    crowd = Strangers()
    assert [crowd.came("a", n) for n in range(4)] == [[], [], [0], [1]]
    assert crowd.came("b", 9) == []
    assert crowd.came("a", 5) == [2]


def test_in_all_the_address_that_has_most_gives_way(monkeypatch):
    monkeypatch.setattr(strangers, "UNPROVED_MAX", 3)
    crowd = Strangers()
    for number in range(3):
        crowd.came("many", number)
    assert crowd.came("one", "honest") == [0]


def test_devices_that_are_known_make_room(monkeypatch):
    monkeypatch.setattr(strangers, "UNPROVED_OF_ADDRESS_MAX", 1)
    crowd = Strangers()
    for number in range(1000):
        assert crowd.came("office", number) == []
        crowd.left("office", number)


def test_those_that_wait_to_be_admitted_are_counted_apart(monkeypatch):
    monkeypatch.setattr(strangers, "UNPROVED_OF_ADDRESS_MAX", 1)
    monkeypatch.setattr(strangers, "WAITING_OF_ADDRESS_MAX", 2)
    crowd = Strangers()
    closed = []
    for number in range(4):
        closed += crowd.came("a", number) + crowd.waits("a", number)
    assert closed == [0, 1]


def test_what_the_process_can_open_bounds_them_too():
    crowd = Strangers(connections_max=40)
    assert sum(len(crowd.came(f"address {n}", n)) for n in range(30)) == 20


def fail(limits, now, key=KEY, address="a"):
    """Attempts that fail, one after the other, until one has to wait. Returns how many, and for how long."""
    for count in range(1000):
        wait_s = limits.ask(key, address, now)
        if wait_s:
            return count, wait_s
        limits.answered(key, address, now, failed=True)
    raise AssertionError("nothing holds it up")


def test_a_key_waits_longer_each_time():
    limits = SignInLimits()
    now = 100.0
    assert fail(limits, now) == (5, 1.0)
    waits = []
    for _ in range(12):
        now += fail(limits, now)[1]
        waits.append(fail(limits, now)[1])
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0, 900.0]


def test_new_keys_at_one_address_are_no_way_around():
    limits = SignInLimits()
    made = 0
    for number in range(3600):
        for key in range(10):
            made += limits.ask(b"%d %d" % (number, key), "a", float(number)) == 0
            limits.answered(b"%d %d" % (number, key), "a", float(number), failed=True)
    assert made < 20 + 10 + 3600 / 60


def test_a_success_does_not_clear_what_others_tried():
    limits = SignInLimits()
    for number in range(20):
        limits.ask(b"%d" % number, "a", 1.0)
        limits.answered(b"%d" % number, "a", 1.0, failed=True)
        # the attacker's own account; each time another device, as the first would be held up
        if limits.ask(b"own %d" % number, "a", 1.0) == 0:
            limits.answered(b"own %d" % number, "a", 1.0, failed=False)
    assert limits.ask(b"another", "a", 1.5) > 0
    assert limits.ask(b"another", "elsewhere", 1.5) == 0


def test_a_hundred_at_once_are_no_way_around():
    limits = SignInLimits()
    asked = [limits.ask(b"%d" % number, "a", 1.0) for number in range(500)]
    assert asked.count(0) == 128


def test_honest_crowds_at_one_address_do_not_wait():
    limits = SignInLimits()
    for number in range(5000):
        assert limits.ask(b"%d" % number, "school", 1.0) == 0
        limits.answered(b"%d" % number, "school", 1.0, failed=False)


def test_failures_are_forgotten():
    limits = SignInLimits()
    assert fail(limits, 100.0)[0] == 5
    assert fail(limits, 100.0 + 901)[0] == 5


def test_addresses_need_not_be_limited():
    limits = SignInLimits()
    limits.limit_addresses(0)
    for number in range(1000):
        assert limits.ask(b"%d" % number, "proxy", 1.0) == 0
        limits.answered(b"%d" % number, "proxy", 1.0, failed=True)
    assert fail(limits, 1.0) == (5, 1.0)


def test_the_memory_of_failures_is_bounded(monkeypatch):
    monkeypatch.setattr("octodb.sync.sign_in_limits._REMEMBERED_MAX", 10)
    limits = SignInLimits()
    for number in range(100):
        limits.ask(b"%d" % number, f"{number}", 1.0)
    assert len(limits._keys._records) == len(limits._addresses._records) == 10


def test_an_allowance_comes_back():
    allowance = Allowance(3, 0.5)
    assert [allowance.take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(2.0), allowance.take(2.0)] == [True, False]
    assert not allowance.full(5.0)
    assert allowance.full(8.0)
