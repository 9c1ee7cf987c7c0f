"""What is on the way, what is skipped, how much may go."""

from octodb.sync.push_window import PushWindow


def found(*nonces, size=10):
    return [(nonce, bytes([nonce]) * 16, bytes(size), 0) for nonce in nonces]


def sent(push):
    return [(one.nonce, len(one.body)) for one in push.transactions]


def test_numbers_that_follow_are_sent_as_they_are():
    window = PushWindow(3)
    assert sent(window.push(found(4, 5))) == [(4, 10), (5, 10)]
    assert window.sent_nonce == 5


def test_numbers_that_are_missing_above_the_primarys_are_skipped():
    window = PushWindow(3)
    assert sent(window.push(found(6, 7))) == [(5, 0), (6, 10), (7, 10)]
    assert sent(window.push(found(10))) == [(9, 0), (10, 10)]


def test_what_the_primary_has_judged_may_come_again_with_gaps():
    window = PushWindow(9)
    assert sent(window.push(found(4, 7))) == [(4, 10), (7, 10)]
    assert sent(window.push(found(10))) == [(10, 10)]


def test_half_a_hash_is_sent_to_those_who_take_it():
    assert len(PushWindow(0, 8).push(found(1)).transactions[0].hash) == 8
    assert len(PushWindow().push(found(1)).transactions[0].hash) == 16


def test_room_is_counted_in_transactions_and_bytes():
    window = PushWindow()
    window.push(found(*range(1, 101)))
    assert (window.room, window.busy) == (924, True)
    window.judged(set(range(1, 101)))
    assert (window.room, window.busy) == (1024, False)
    window.push(found(101, size=4 * 1024 * 1024))
    assert window.room == 0
    window.judged({101})
    assert window.room == 1024
