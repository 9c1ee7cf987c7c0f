"""Rounds of kill -9 on one primary and its devices, all real processes, and the counts of what the kills hit."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.crash.black_box import APPLICATION, CODES, COMMAND, STORAGE, BlackBox
from tests.crash.program import STOP

ROOT = Path(__file__).resolve().parents[2]
_START_S_MAX = 30.0
_AIM_S_MAX = 1.5
_SETTLE_S_MAX = 120.0

# What a kill waits for. None: nothing, a random moment.
_AIMS_AT_DEVICES = (
    ("commit: writing down", APPLICATION, 2),
    ("commit: COMMIT", APPLICATION, 3),
    ("apply: rebasing", STORAGE, 3),
    ("apply: COMMIT", STORAGE, 3),
    ("storing the welcome", STORAGE, 1),
    ("reading the outbox", STORAGE, 1),
    (None, None, 2),
)
_AIMS_AT_PRIMARIES = (
    ("commit: writing down", APPLICATION, 1),
    ("commit: COMMIT", APPLICATION, 2),
    ("push: judging", STORAGE, 3),
    ("push: COMMIT", STORAGE, 3),
    (None, None, 2),
)


class Trouble(AssertionError):
    """A promise was broken, or a program ended by itself."""


class Program:
    """One node through all its lives."""

    def __init__(self, folder, role, name, uri, seed):
        self.folder, self.role, self.name, self.uri, self._seed = folder, role, name, uri, seed
        self.path = f"{folder}/{name}.db"
        self.box = BlackBox(f"{folder}/{name}.box")
        self.life = 0
        self.process = None
        self.was_ready = False

    def start(self):
        self.life += 1
        self.box.clear()
        arguments = (self.role, self.uri, self.name, self.life, self.folder, self._seed)
        with open(f"{self.folder}/{self.name}.err", "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.program", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )

    def until(self, wanted):
        line = self.process.stdout.readline().strip()
        if line != wanted:
            raise Trouble(f"{self.name} said {line!r} instead of {wanted!r}: {self.complaints()}")

    def kill(self):
        """Kill -9; return what it was inside of."""
        os.kill(self.process.pid, signal.SIGKILL)
        return self.bury()

    def bury(self):
        code = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if code != -signal.SIGKILL:
            raise Trouble(f"{self.name} ended by itself with {code}: {self.complaints()}")
        return self.box.inside()

    def end(self):
        self.process.communicate(timeout=_START_S_MAX)
        if self.process.returncode:
            raise Trouble(f"{self.name} ended with {self.process.returncode}: {self.complaints()}")

    def complaints(self):
        return Path(f"{self.folder}/{self.name}.err").read_text()[-2000:]


class Campaign:
    """``run(rounds)`` kills, then lets everything come to rest. ``counts`` and the files are judged by reckoning.py."""

    def __init__(self, folder, seed, say=lambda text: None):
        self.folder, self.say = str(folder), say
        self.chance = random.Random(seed)
        self.counts, self.inside = Counter(), Counter()
        address = f"tcp://127.0.0.1:{_free_port()}"
        uri = f"file:{folder}/primary.db?node=primary&auth=user&bind={address}"
        self.primary = Program(self.folder, "primary", "primary", uri, seed)
        self.devices = [self._device(name, address, seed) for name in ("ada-1", "ada-2", "bob-1")]
        # it joins when there is something to download, and is killed while it does
        self.newcomer = self._device("ada-3", address, seed)

    def _device(self, name, address, seed):
        uri = f"file:{self.folder}/{name}.db?node=secondary&connect={address}"
        return Program(self.folder, "device", name, uri, seed)

    @property
    def programs(self):
        return [self.primary, *self.devices]

    @property
    def hits(self):
        """Kills inside a commit, a push or an apply: what the campaign is for."""
        return self.counts["kills inside a commit, a push or an apply"]

    @property
    def kills(self):
        return self.counts["kills"]

    def run(self, rounds):
        """At least ``rounds`` rounds, and more, up to twice as many, until a third of the kills hit something."""
        started = time.monotonic()
        try:
            self._start(self.primary)
            for device in self.devices:
                self._start(device)
            while self.counts["rounds"] < rounds or (3 * self.hits < self.kills and self.counts["rounds"] < 2 * rounds):
                self._round()
                if self.counts["rounds"] == rounds // 2:
                    self._newcomer_joins()
            return self._come_to_rest()
        finally:
            self.counts["seconds"] = round(time.monotonic() - started)
            for program in [*self.programs, self.newcomer]:
                if program.process is not None and program.process.poll() is None:
                    program.process.kill()
                    program.process.communicate()

    def _start(self, program):
        program.start()
        program.until("up")

    # --- rounds --------------------------------------------------------------------------------------

    def _round(self):
        self.counts["rounds"] += 1
        draw = self.chance.random()
        device = self.chance.choice(self.devices)
        if draw < 0.55:
            killed = [self._kill(device, _AIMS_AT_DEVICES)]
        elif draw < 0.85:
            killed = [self._kill(self.primary, _AIMS_AT_PRIMARIES)]
        else:
            both = [(self.primary, _AIMS_AT_PRIMARIES), (device, _AIMS_AT_DEVICES)]
            self.chance.shuffle(both)
            killed = [self._kill(program, aims) for program, aims in both]
        self.counts[f"rounds that killed {' and '.join(sorted(p.role for p in killed))}"] += 1
        if self.chance.random() < 0.3:
            self._wait(self.chance.uniform(0, 0.3))  # the others go on alone for a while
        for program in killed:
            self._start(program)

    def _kill(self, program, aims):
        name, thread, _ = self.chance.choices(aims, weights=[weight for _, _, weight in aims])[0]
        self._wait(self.chance.uniform(0, 0.25))
        if name == "storing the welcome":
            # that happens once a life, soon after its start
            self._count(program, program.kill())
            program.start()
        self._aim(program, name, thread)
        self._count(program, program.kill())
        return program

    def _aim(self, program, name, thread, aim_s_max=_AIM_S_MAX):
        """Wait until the program says that it is in the middle of that; not for ever."""
        if name is None:
            return
        code, mapped = CODES[name], program.box.bytes
        latest = time.monotonic() + aim_s_max
        while mapped[thread] != code:
            if time.monotonic() > latest or program.process.poll() is not None:
                return
        depth = self.chance.choice((0, 0, 20, 100, 500))  # somewhere in it, not always at its beginning
        for _ in range(depth):
            if mapped[thread] != code:
                return

    def _count(self, program, inside):
        self.counts["kills"] += 1
        self.counts[f"kills of a {program.role}"] += 1
        for name in inside:
            self.inside[f"{program.role}: {name}"] += 1
        if not inside:
            self.inside[f"{program.role}: nothing"] += 1
        if any(name.partition(":")[0] in {"commit", "push", "apply"} for name in inside):
            self.counts["kills inside a commit, a push or an apply"] += 1
        self.say(f"round {self.counts['rounds']}: {program.name} killed inside {' and '.join(inside) or 'nothing'}")

    def _newcomer_joins(self):
        """A first download that is cut off twice."""
        program = self.newcomer
        program.start()
        for _ in range(2):
            self._aim(program, "download", STORAGE, _START_S_MAX)
            self._count(program, program.kill())
            program.start()
        program.until("up")
        self.devices.append(program)

    # --- the end -------------------------------------------------------------------------------------

    def _come_to_rest(self):
        """Everybody stops writing; everybody gets everything; the processes end. Returns the statuses by name."""
        for program in self.programs:
            program.box.bytes[COMMAND] = STOP
            program.until("stopped")
        statuses = {}
        for again in (False, True):  # what one still had to send, the next one has to get
            for device in self.devices:
                device.process.stdin.write("settle\n")
                device.process.stdin.flush()
            for device in self.devices:
                status = json.loads(device.process.stdout.readline() or "{}")
                if not status.get("synced"):
                    raise Trouble(f"{device.name} does not come to rest: {status} {device.complaints()}")
                if again:
                    statuses[device.name] = status
        for program in reversed(self.programs):
            program.end()
        for program in [*self.programs]:
            if complaints := program.complaints():
                raise Trouble(f"{program.name} complained: {complaints}")
        return statuses

    @staticmethod
    def _wait(seconds):
        """The one place where time passes by the clock: a kill at a random moment has nothing to wait for."""
        time.sleep(seconds)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
