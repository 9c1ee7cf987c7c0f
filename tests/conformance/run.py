"""CPython's own sqlite3 test suite, run against octodb.

Copies ``test.test_sqlite3`` of the running interpreter into a temporary folder, with the imports rewritten
to octodb, runs each file in its own process and prints one line a file and a total. Exit status 0 means it
could run, not that everything passed: parity is a figure to watch, printed as ``passed N of M``.

    python tests/conformance/run.py [--verbose] [--list] [name …]

``name`` picks files (``dbapi`` for test_dbapi.py). ``--list`` names each test that did not pass,
``--verbose`` prints what the tests print.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 120
PACKAGE = "octodb_conformance"

RUNNER = """
import importlib, json, sys, unittest

class Result(unittest.TextTestResult):
    started = passed = 0
    def startTest(self, test):
        Result.started += 1
        super().startTest(test)
    def addSuccess(self, test):
        Result.passed += 1
        super().addSuccess(test)

suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(sys.argv[1]))
outcome = unittest.TextTestRunner(resultclass=Result, verbosity=2).run(suite)
named = lambda pairs: sorted({test.id() for test, _ in pairs})
print(json.dumps({
    "ran": Result.started, "skipped": len(outcome.skipped),
    "failed": sorted({getattr(t, "test_case", t).id() for t, _ in outcome.failures}),
    "errors": sorted({getattr(t, "test_case", t).id() for t, _ in outcome.errors}),
}))
"""

REWRITES = (
    (re.compile(r"\bimport sqlite3 as sqlite\b"), "import octodb as sqlite"),
    (re.compile(r"\bimport sqlite3\b"), "import octodb as sqlite3"),
    (re.compile(r"\bfrom sqlite3(\.\w+)? import"), r"from octodb\1 import"),
    (re.compile(r"\bfrom test\.test_sqlite3\b"), f"from {PACKAGE}"),
    (re.compile(r"(patch(?:\.\w+)?\(\s*[\"'])sqlite3\."), r"\1octodb."),
)


@dataclass
class FileResult:
    """How one test file fared. ``crashed`` says how its process ended when it did not report."""

    name: str
    ran: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    crashed: str = ""
    output: str = ""

    @property
    def passed(self) -> int:
        return self.ran - self.skipped - len(self.failed) - len(self.errors)

    def line(self) -> str:
        text = (
            f"{self.name:<20} ran {self.ran:>4}  passed {self.passed:>4}  failed {len(self.failed):>3}"
            f"  errors {len(self.errors):>3}  skipped {self.skipped:>3}"
        )
        return f"{text}  CRASHED: {self.crashed}" if self.crashed else text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="*", help="files to run, for example: dbapi types")
    parser.add_argument("--list", action="store_true", help="name the tests that did not pass")
    parser.add_argument("--verbose", action="store_true", help="print what the tests print")
    options = parser.parse_args()
    source = suite_folder()
    if source is None:
        print("error: this Python ships without test.test_sqlite3, so there is nothing to run")
        print("  fix: install it (Debian and Ubuntu: apt-get install libpython3-testsuite),")
        print("       or run this with another Python")
        return 2
    with tempfile.TemporaryDirectory(prefix="octodb-conformance-") as folder:
        root = Path(folder)
        files = copy_suite(source, root / PACKAGE)
        if options.name:
            files = [file for file in files if file.removeprefix("test_") in options.name]
        results = []
        for file in files:
            result = run_file(root, file)
            results.append(result)
            print(result.line(), flush=True)
            if options.list:
                for test in [*result.failed, *result.errors]:
                    print(f"    {test.removeprefix(PACKAGE + '.')}")
            if options.verbose or result.crashed:
                print(result.output)
    counted = sum(result.ran - result.skipped for result in results)
    print(f"passed {sum(result.passed for result in results)} of {counted}")
    return 0


def suite_folder() -> Path | None:
    """The folder of test.test_sqlite3, found without importing it (importing it imports _sqlite3)."""
    try:
        package = importlib.util.find_spec("test")
    except ImportError:
        return None
    for base in (package.submodule_search_locations or ()) if package else ():
        folder = Path(base) / "test_sqlite3"
        if (folder / "test_dbapi.py").exists():
            return folder
    return None


def copy_suite(source: Path, target: Path) -> list[str]:
    """Copy the test files with their imports rewritten; return their module names in order."""
    target.mkdir()
    (target / "__init__.py").write_text("")
    names = []
    for file in sorted(source.glob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        for pattern, replacement in REWRITES:
            text = pattern.sub(replacement, text)
        # some tests assert that a warning came from their own file: names stay as they are
        (target / file.name).write_text(text, encoding="utf-8")
        names.append(file.stem)
    return names


def run_file(root: Path, name: str) -> FileResult:
    """Run one file in its own process and folder, and read what its last line reports."""
    result = FileResult(name)
    work = root / f"work-{name}"
    work.mkdir()
    repository = Path(__file__).resolve().parents[2]
    # by environment and not by sys.path: some tests start Python processes of their own
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(root), str(repository)))}
    command = [sys.executable, "-c", RUNNER, f"{PACKAGE}.{name}"]
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        result.crashed = f"no end after {TIMEOUT_S} s"
        result.output = (expired.stderr or b"").decode(errors="replace")
        return result
    result.output = done.stderr
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        result.crashed = f"exit status {done.returncode}"
        return result
    report = json.loads(lines[-1])
    result.ran, result.skipped = report["ran"], report["skipped"]
    result.failed = report["failed"]
    result.errors = [test for test in report["errors"] if test not in report["failed"]]
    return result


if __name__ == "__main__":
    sys.exit(main())
