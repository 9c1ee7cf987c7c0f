"""Each benchmark runs with tiny amounts and prints a whole table. What the numbers say is nobody's test."""

import re
import sqlite3
from contextlib import closing

import pytest

import benchmarks.__main__
from benchmarks import idle_devices, ingest
from benchmarks.__main__ import BENCHMARKS, GROWTH, main
from benchmarks.load_devices import load
from benchmarks.measuring import Size, medians, percentile
from benchmarks.nodes import check_same_settings, plain_file
from benchmarks.report import Comparison, Target, table_text


@pytest.mark.parametrize("name", [*BENCHMARKS, *GROWTH])
def test_each_benchmark_prints_and_saves_its_table(name, tmp_path, capsys):
    results = tmp_path / "results"

    main([name, "--tiny", "--save", "--folder", str(tmp_path)], results)

    printed = capsys.readouterr().out
    title, _ = {**BENCHMARKS, **GROWTH}[name]
    assert title in printed
    assert re.search(r"sqlite 3\.\d+\.\d+ \(apsw\) beside 3\.\d+\.\d+", printed)
    if name in BENCHMARKS:
        assert re.search(r" [≤≥] [\d.,]+(x| \S.*?) +(reached|MISSED)", printed)
    else:
        assert re.search(r"\d\.\d\dx", printed)
    (saved,) = results.iterdir()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d-{name}\.txt", saved.name)
    assert saved.read_text("utf-8").strip() == printed.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "the files measured are removed"


def test_every_row_of_the_targets_is_run_when_none_is_named_and_growth_when_asked_for(monkeypatch):
    ran = []
    monkeypatch.setattr(benchmarks.__main__, "run_all", lambda chosen, *_: ran.append(list(chosen)))

    main([])
    main(["growth"])

    assert ran == [list(BENCHMARKS), list(GROWTH)]


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])

    assert "there is no benchmark speed; there are autocommit" in capsys.readouterr().err


def test_ingest_refuses_a_primary_that_lost_transactions(tmp_path, monkeypatch):
    def claiming_more(*arguments):
        result = load(*arguments)
        result.transactions += 1
        return result

    monkeypatch.setattr(ingest, "load", claiming_more)

    with pytest.raises(RuntimeError, match=r"not exactly once: 1001 sent, rows \(1000, 1000, 50\)"):
        ingest.run(tmp_path, Size.TINY)


def test_files_with_other_settings_are_no_peers(tmp_path):
    with (
        closing(plain_file(tmp_path / "a.db")) as a,
        closing(sqlite3.connect(tmp_path / "b.db")) as b,
        pytest.raises(RuntimeError, match="the files have different settings"),
    ):
        check_same_settings({"a": a, "b": b})


def test_fewer_devices_are_used_where_fewer_files_may_be_open(monkeypatch, capsys):
    monkeypatch.setattr(idle_devices, "raise_file_limit", lambda: 1200)

    assert idle_devices.devices_possible(10_000) == 1000
    assert "only 1,000 of 10,000 devices" in capsys.readouterr().err
    assert idle_devices.devices_possible(800) == 800


def test_percentiles_are_values_that_occurred():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1.0, 3.0, 5.0, 5.0]


def test_medians_leave_the_first_round_out():
    results = {"a": iter([100.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 5.0, 9.0])}

    found = medians(3, {name: each.__next__ for name, each in results.items()})

    assert found == {"a": 2.0, "b": 5.0}


def test_verdicts_compare_ratios_and_rates_with_their_targets():
    slower = Comparison("a", 30.0, "b", 10.0, "µs", Target("≤", 2.5))
    rate = Comparison("c", 21_000.0, "d", 70_000.0, "/s", Target("≥", 20_000, "/s"))
    share = Comparison("c", 21_000.0, "d", 70_000.0, "/s", Target("≥", 0.4))

    lines = table_text("title", [slower, rate, share]).splitlines()[2:]

    assert [line.split()[-1] for line in lines] == ["MISSED", "reached", "MISSED"]


def test_a_figure_without_a_peer_has_no_ratio():
    (line,) = table_text("title", [Comparison("a", 30.0, "", None, "ms", Target("≤", 40, "ms"))]).splitlines()[2:]

    assert line.split() == ["a", "30.00", "ms", "≤", "40", "ms", "reached"]
