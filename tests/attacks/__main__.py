"""``python -m tests.attacks [WORD…] [--slow]``: run the attacks, or those with one of the words in their names.

Each has a primary in a process of its own, with its real limits, and a victim. Prints what each got, and by how many MB
the process grew at most; exits 1 when one got anything, the victim could not go on, or a primary grew too much.
``--address A --file F``: against a primary that runs already, on whose machine this is. Make it with the schema that
``--schema`` prints and serve it with ``--authorizer tests.attacks.arena:RULES``; it is full of rubbish afterwards.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.attacks import on_devices, on_identity, on_limits, on_rows
from tests.attacks.arena import SCHEMA, Arena

PROJECT = Path(__file__).parents[2]
AT_PRIMARIES = [*on_rows.ATTACKS, *on_identity.ATTACKS, *on_limits.ATTACKS]
# Messages of a known device may be 72 MiB and exist three times while they are read; unfinished ones 512 MiB in all.
GROWTH_MB_MAX = 900


@contextmanager
def primary(folder):
    """(process id, address, file) of a primary in a process of its own."""
    path = Path(folder) / "primary.db"
    (Path(folder) / "schema.sql").write_text(SCHEMA)
    command = [sys.executable, "-c", "from octocli.main import main; main()", "serve", str(path)]
    command += ["--bind", "tcp://127.0.0.1:0", "--init", f"{folder}/schema.sql"]
    command += ["--authorizer", "tests.attacks.arena:RULES"]
    log = (Path(folder) / "log").open("w")
    with log, subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            line = process.stdout.readline()
            if "listening on" not in line:
                raise RuntimeError((Path(folder) / "log").read_text())
            yield process.pid, line.split()[-1], path
        finally:
            process.terminate()
            process.wait()


def megabytes(pid, what):
    """VmRSS: what a process has now; VmHWM: the most that it had (proc(5))."""
    if pid is None or not Path(f"/proc/{pid}/status").exists():
        return 0.0
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{what}:")[1].split()[0]) / 1024


def at_primary(attack, running=None):
    """(what it got, MB that the primary grew)"""
    with tempfile.TemporaryDirectory() as folder, running or primary(folder) as (pid, address, path):
        arena = Arena(Path(folder), address, path)
        try:
            arena.begin()
            before = megabytes(pid, "VmRSS")
            got = attack.run(arena)
            if not arena.victim_goes_on():
                got += " (the victim could not go on)"
            return got, megabytes(pid, "VmHWM") - before
        finally:
            arena.close()


class Folder:
    def __init__(self, folder):
        self.folder = folder


def at_device(attack):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "devices").mkdir()
        return attack.run(Folder(f"{folder}/devices")), 0.0


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--slow", action="store_true", help="also those that wait for the real limits")
    parser.add_argument("--schema", action="store_true", help="print the schema and end")
    parser.add_argument("--address")
    parser.add_argument("--file")
    arguments = parser.parse_args()
    if arguments.schema:
        sys.exit(print(SCHEMA))
    running = None if arguments.address is None else nullcontext((None, arguments.address, arguments.file))
    failed = 0
    attacks = [(attack, lambda attack: at_primary(attack, running)) for attack in AT_PRIMARIES]
    attacks += [(attack, at_device) for attack in on_devices.ATTACKS]
    print(f"{'attack':58} {'s':>5} {'MB':>5}  got")
    for attack, run in attacks:
        if arguments.words and not any(word in attack.name for word in arguments.words):
            continue
        if attack.slow and not arguments.slow:
            continue
        began = time.monotonic()
        try:
            got, grown = run(attack)
        except Exception as error:
            got, grown = f"(it broke: {type(error).__name__}: {error})", 0.0
        too_much = grown > GROWTH_MB_MAX
        failed += bool(got) or too_much
        told = got or ("nothing, but the memory" if too_much else "nothing")
        print(f"{attack.name:58} {time.monotonic() - began:5.1f} {grown:5.0f}  {told}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
