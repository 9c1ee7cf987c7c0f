"""Each benchmark runs with tiny amounts and prints a whole table. What the numbers say is nobody's test."""

import re

import pytest

from benchmarks import ingest
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.measuring import medians
from benchmarks.report import Comparison, Target, table_text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_prints_and_saves_its_table(name, tmp_path, capsys):
    results = tmp_path / "results"

    main([name, "--quick", "--save", "--folder", str(tmp_path)], results)

    printed = capsys.readouterr().out
    title, _ = BENCHMARKS[name]
    assert title in printed
    assert re.search(r"sqlite 3\.\d+\.\d+ \(apsw\) beside 3\.\d+\.\d+", printed)
    assert re.search(r"\d\.\d\dx +[≤≥] [\d.,]+(x|/s) +(reached|MISSED)", printed)
    (saved,) = results.iterdir()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d-{name}\.txt", saved.name)
    assert saved.read_text("utf-8").strip() == printed.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "the files measured are removed"


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])

    assert "there is no benchmark speed; there are autocommit" in capsys.readouterr().err


def test_ingest_refuses_a_primary_that_lost_transactions(tmp_path, monkeypatch):
    real_load = ingest._load

    def claiming_more(*arguments):
        result = real_load(*arguments)
        result.transactions += 1
        return result

    monkeypatch.setattr(ingest, "_load", claiming_more)

    with pytest.raises(RuntimeError, match=r"not exactly once: 1001 sent, rows \(1000, 1000, 50\)"):
        ingest.run(tmp_path, quick=True)


def test_medians_leave_the_first_round_out():
    results = {"a": iter([100.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 5.0, 9.0])}

    found = medians(3, {name: each.__next__ for name, each in results.items()})

    assert found == {"a": 2.0, "b": 5.0}


def test_verdicts_compare_ratios_and_rates_with_their_targets():
    slower = Comparison("a", 30.0, "b", 10.0, "µs", Target("≤", 2.5))
    rate = Comparison("c", 21_000.0, "d", 70_000.0, "/s", Target("≥", 20_000, per_s=True))
    share = Comparison("c", 21_000.0, "d", 70_000.0, "/s", Target("≥", 0.4))

    lines = table_text("title", [slower, rate, share]).splitlines()[2:]

    assert [line.split()[-1] for line in lines] == ["MISSED", "reached", "MISSED"]
