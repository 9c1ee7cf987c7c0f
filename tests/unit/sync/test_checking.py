"""Comparing rows with the primary's as stories: sums that come, ranges that are narrowed, rows that are fetched."""

import pytest

from octodb.sync.checking import Checking
from octodb.sync.effects import Notify, ReadSums, RepairRange, Send
from octodb.wire.messages import AskRows, AskSums, RangeRows, Sums


def of(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects):
    return [effect.message for effect in of(Send, effects)]


def begun():
    """Quiet since 100, asked at 102 about position 7."""
    checking = Checking()
    checking.moved(100.0, quiet=True)
    assert checking.begin(7, 101.0) == []
    assert sent(checking.begin(7, 102.0)) == [AskSums(7, "", [], [])]
    return checking


def compare(checking, theirs, ours, bounds=()):
    (asked,) = of(ReadSums, checking.sums_came(Sums(7, theirs, list(bounds))))
    return checking.sums_read(asked, ours, 103.0)


def test_equal_sums_are_all_that_is_needed():
    checking = begun()
    assert of(Notify, compare(checking, [("t", 2, 55)], [("t", 2, 55)]))[0].event == "status"
    assert (checking.ok, checking.finished, checking.mended) == (True, 1, ())


def test_it_is_not_repeated_until_something_moved_and_some_time_passed():
    checking = begun()
    compare(checking, [("t", 2, 55)], [("t", 2, 55)])
    assert checking.due_at(104.0) is None
    checking.moved(110.0, quiet=False)
    assert checking.due_at(111.0) is None
    checking.moved(112.0, quiet=True)
    assert checking.due_at(113.0) == 703.0
    checking.want()
    assert checking.due_at(113.0) == 112.0


def test_a_difference_is_narrowed_and_only_its_rows_are_fetched():
    checking = begun()
    effects = compare(checking, [("t", 9000, 1), ("u", 1, 1)], [("t", 9000, 2), ("u", 1, 1)])
    assert of(Notify, effects)[0].info == {"code": "checksum", "reason": "rows differ from the primary's: t"}
    assert checking.ok is False
    assert sent(effects) == [AskSums(7, "t", [], [])]
    parts = [("t", 3000, 1), ("t", 3000, 2), ("t", 3000, 3)]
    effects = compare(checking, parts, [("t", 3000, 1), ("t", 3000, 9), ("t", 3000, 3)], [[10], [20]])
    assert sent(effects) == [AskSums(7, "t", [10], [20])], "still too many rows to fetch"
    effects = compare(checking, [("t", 500, 1), ("t", 2, 5)], [("t", 500, 1), ("t", 1, 4)], [[15]])
    assert sent(effects) == [AskRows(7, "t", [15], [20])]
    (repair,) = of(RepairRange, checking.rows_came(RangeRows(7, ["id"], [[16], [17]])))
    assert (repair.table, repair.low, repair.high, repair.rows) == ("t", [15], [20], [[16], [17]])
    assert sent(checking.repaired(repair, True)) == [AskSums(7, "", [], [])], "compared once more"
    same = [("t", 9000, 1), ("u", 1, 1)]
    assert of(Notify, compare(checking, same, same))[0] == Notify("repaired", {"tables": ["t"]})
    assert (checking.ok, checking.mended, checking.finished) == (True, ("t",), 1)


def test_a_table_that_only_one_side_has_is_a_difference():
    checking = begun()
    compare(checking, [("t", 0, 1)], [])
    assert checking.different == ("t",)


@pytest.mark.parametrize("step", ["primary", "ours", "rows", "repair"])
def test_what_moves_meanwhile_ends_the_round_and_another_begins_later(step):
    checking = begun()
    if step == "primary":
        checking.sums_came(Sums(0, [], []))
    elif step == "ours":
        compare(checking, [("t", 1, 1)], None)
    else:
        compare(checking, [("t", 1, 1)], [("t", 1, 2)])
        compare(checking, [("t", 1, 1)], [("t", 1, 2)])
        if step == "rows":
            checking.rows_came(RangeRows(0, [], []))
        else:
            (repair,) = of(RepairRange, checking.rows_came(RangeRows(7, ["id"], [[1]])))
            assert checking.repaired(repair, False) == []
    assert checking.finished == 0
    assert checking.rows_came(RangeRows(7, ["id"], [[1]])) == [], "a late answer"
    checking.moved(200.0, quiet=True)
    assert sent(checking.begin(8, 202.0)) == [AskSums(8, "", [], [])]


def test_what_cannot_be_mended_is_given_up_and_said():
    checking = begun()
    effects = []
    for _ in range(6):
        effects = compare(checking, [("t", 1, 1)], [("t", 1, 2)])
        if checking.finished:
            break
        compare(checking, [("t", 1, 1)], [("t", 1, 2)])
        (repair,) = of(RepairRange, checking.rows_came(RangeRows(7, ["id"], [[1]])))
        checking.repaired(repair, True)
    assert (checking.ok, checking.finished, sent(effects)) == (False, 1, [])


def test_rows_too_large_for_one_message_are_cut_further():
    checking = begun()
    compare(checking, [("t", 500, 1)], [("t", 500, 2)])
    effects = compare(checking, [("t", 500, 1)], [("t", 500, 2)])
    assert sent(effects) == [AskRows(7, "t", [], [])]
    effects = checking.rows_came(RangeRows(0, [], []))
    assert sent(effects) == [AskSums(7, "t", [], [])]
    effects = compare(checking, [("t", 63, 1), ("t", 437, 3)], [("t", 63, 2), ("t", 437, 3)], [[63]])
    assert sent(effects) == [AskSums(7, "t", [], [63])], "what seemed few rows is not"
    effects = compare(checking, [("t", 4, 1), ("t", 59, 3)], [("t", 4, 2), ("t", 59, 3)], [[4]])
    assert sent(effects) == [AskRows(7, "t", [], [4])]
    for count in (3, 1):
        assert sent(checking.rows_came(RangeRows(0, [], []))) == [AskSums(7, "t", [], [4 if count == 3 else 3])]
        parts = [("t", count, 1), ("t", 1, 3)]
        effects = compare(checking, parts, [("t", count, 2), ("t", 1, 3)], [[count]])
    assert sent(effects) == [AskRows(7, "t", [], [1])]
    assert checking.rows_came(RangeRows(0, [], [])) == [], "one row always fits: the log has moved on"
    assert checking.due_at(103.0) is not None


def test_an_answer_to_an_earlier_question_is_not_taken_for_the_next_ones():
    """A commit of the application's ended the round; its answer is still on its way."""
    checking = begun()
    compare(checking, [("t", 9, 1), ("u", 5, 5)], [("t", 9, 2), ("u", 5, 5)])  # asks for parts of t
    checking.moved(103.0, quiet=False)
    checking.moved(103.1, quiet=True)
    checking.want()
    assert checking.due_at(104.0) is None, "the answer first"
    assert checking.sums_came(Sums(7, [("t", 9, 1)], [])) == []
    assert checking.due_at(104.0) == 103.1
    assert sent(checking.begin(7, 104.0)) == [AskSums(7, "", [], [])]
    checking.connection_lost()
    checking.moved(110.0, quiet=True)
    assert sent(checking.begin(7, 112.0)) == [AskSums(7, "", [], [])], "no answer comes on another connection"


def test_a_comparison_that_is_wanted_is_not_one_that_had_begun():
    checking = begun()
    finished = checking.finished
    checking.want()
    assert checking.sums_came(Sums(7, [("t", 2, 55)], [])) == []
    assert checking.finished == finished
    assert sent(checking.begin(7, 103.0)) == [AskSums(7, "", [], [])]
    compare(checking, [("t", 2, 55)], [("t", 2, 55)])
    assert checking.finished == finished + 1


def test_sums_that_were_read_for_an_earlier_round_are_not_compared():
    checking = begun()
    (asked,) = of(ReadSums, checking.sums_came(Sums(7, [("t", 2, 55)], [])))
    checking.moved(103.0, quiet=False)
    checking.moved(103.1, quiet=True)
    checking.want()
    checking.begin(7, 104.0)
    assert checking.sums_read(asked, [("t", 2, 55)], 104.0) == []
    assert checking.ok is None
    assert of(Notify, compare(checking, [("t", 2, 55)], [("t", 2, 55)]))[0].event == "status"
