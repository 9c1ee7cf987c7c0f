"""The tour: what OctoDB promises, shown step by step and checked at the other end each time.

A step that is not true ends the tour with a Failure.
"""

from __future__ import annotations

import json
from typing import Any, Final

import click

from octocli.demo.stage import Device, Stage
from octocli.failure import Failure
from octocli.terminal import Terminal

__all__ = ["run_tour"]

ADA: Final = ("ada@example.org", "correct horse battery")
BEN: Final = ("ben@example.org", "staple of another kind")


def run_tour(terminal: Terminal) -> None:
    """Run every step on a fresh stage; all of it is gone afterwards."""
    with Stage() as stage:
        Tour(stage, terminal).run()


class Tour:
    """Ada has a phone and a laptop, Ben a tablet; one primary serves them all."""

    def __init__(self, stage: Stage, terminal: Terminal) -> None:
        self._stage = stage
        self._terminal = terminal
        self._phone = Device(stage, "phone")
        self._laptop = Device(stage, "laptop")
        self._tablet = Device(stage, "tablet")

    def run(self) -> None:
        self._start()
        self._sign_up()
        self._second_device()
        self._live_sync()
        self._other_user()
        self._offline()
        self._rejection()
        self._status()

    def _ok(self, text: str) -> None:
        click.echo(f"ok  {text}")

    def _check(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise Failure(what, why=f"found {found!r}, expected {expected!r}")

    def _start(self) -> None:
        address = self._stage.start_primary()
        tracks = self._primary("SELECT count(*) FROM track")[0][0]
        self._check("the primary has no sample data", tracks > 0, True)
        self._ok(f"a primary listens on {address} and holds {tracks} tracks")

    def _sign_up(self) -> None:
        who = self._phone.sign_in("signup", *ADA)
        sql = "SELECT id, title, seconds FROM track ORDER BY id"
        self._check("the phone's catalogue differs", self._phone.rows(sql), self._primary(sql))
        self._ok(f"ada's phone signed up ({who}) and downloaded the catalogue")

    def _second_device(self) -> None:
        who = self._laptop.sign_in("login", *ADA)
        sql = "SELECT id, name FROM artist ORDER BY id"
        self._check("the laptop's catalogue differs", self._laptop.rows(sql), self._phone.rows(sql))
        users = {self._stage.status(device.name)["user_id"] for device in (self._phone, self._laptop)}
        self._check("the laptop is another user", len(users), 1)
        self._ok(f"her laptop logged in to the same account ({who})")

    def _live_sync(self) -> None:
        self._phone.start()
        self._laptop.start()
        self._phone.execute("INSERT INTO playlist (name, note) VALUES ('Morning', 'from the phone')")
        self._arrives(self._laptop, "Morning", "from the phone")
        self._ok("phone → laptop: a playlist made on the phone is in the laptop's file")
        self._laptop.execute("UPDATE playlist SET note = 'changed on the laptop' WHERE name = 'Morning'")
        self._arrives(self._phone, "Morning", "changed on the laptop")
        self._ok("laptop → phone: a change made on the laptop is in the phone's file")
        found = self._primary("SELECT note FROM playlist WHERE name = 'Morning'")
        self._check("the primary's row differs", found, [("changed on the laptop",)])
        self._ok("the primary holds the same row, for plain SQL on the backend")

    def _other_user(self) -> None:
        self._tablet.sign_in("signup", *BEN)
        self._check("ben has ada's rows", self._tablet.rows("SELECT count(*) FROM playlist"), [(0,)])
        tracks = self._primary("SELECT count(*) FROM track")
        self._check("ben's catalogue differs", self._tablet.rows("SELECT count(*) FROM track"), tracks)
        self._ok("ben's tablet has the catalogue, and none of ada's rows in its file")

    def _offline(self) -> None:
        self._check("the primary did not stop cleanly", self._stage.stop_primary(), 0)
        self._ok("the primary is stopped: both devices are offline now")
        self._phone.execute("INSERT INTO playlist (name, note) VALUES ('Offline', 'without a server')")
        self._arrives(self._phone, "Offline", "without a server")
        self._check("the primary has it already", self._names(), ["Morning"])
        pending = self._stage.status("phone")["transactions"]["pending"]
        self._check("the phone's queue", pending, 1)
        self._ok("the phone writes all the same: 1 transaction waits in its queue")

    def _rejection(self) -> None:
        # Two devices make a playlist of one name while neither can know of the other's.
        for device in (self._phone, self._laptop):
            device.execute(f"INSERT INTO playlist (name, note) VALUES ('Evening', 'by the {device.name}')")
            self._arrives(device, "Evening", f"by the {device.name}")
        self._stage.start_primary()
        self._arrives(self._laptop, "Offline", "without a server")
        self._ok("the primary is back: what was written offline is in the laptop's file")
        devices = (self._phone, self._laptop)
        self._stage.until(
            "nothing was rejected, though two rows break UNIQUE",
            lambda: sum(self._rejected(device) for device in devices) == 1,
        )
        loser = next(device for device in devices if self._rejected(device))
        winner = next(device for device in devices if device is not loser)
        self._arrives(loser, "Evening", f"by the {winner.name}")
        row = self._primary("SELECT note FROM playlist WHERE name = 'Evening'")
        self._check("the primary kept the wrong row", row, [(f"by the {winner.name}",)])
        told = self._stage.run("shell", str(loser.file), "-c", ".mode jsonl", "-c", "PRAGMA rejected_transactions")
        reason = str(json.loads(told)["reason"])
        self._check("the reason does not name UNIQUE", "UNIQUE" in reason.upper(), True)
        self._ok(f"both made 'Evening' offline; the {loser.name}'s was rejected: {reason}")

    def _status(self) -> None:
        for device in (self._phone, self._laptop):
            self._stage.run("status", str(device.file), "--until", "synced", "--timeout", "20")
            status = self._stage.status(device.name)
            self._check(f"the {device.name} is not in sync", status["state"], "in sync")
            self._check(f"the {device.name}'s queue", status["transactions"]["pending"], 0)
        sql = "SELECT id, name, note FROM playlist ORDER BY id"
        self._check("phone and laptop differ", self._phone.rows(sql), self._laptop.rows(sql))
        self._check("phone and primary differ", self._phone.rows(sql), self._primary(sql))
        self._ok("a second process reads: in sync, nothing waiting; all three files hold the same rows")

    def _primary(self, sql: str) -> list[tuple[Any, ...]]:
        return self._stage.read(self._stage.primary_file, sql)

    def _names(self) -> list[str]:
        return [row[0] for row in self._primary("SELECT name FROM playlist ORDER BY id")]

    def _rejected(self, device: Device) -> int:
        return int(self._stage.published(device.name)["transactions"]["rejected"])

    def _arrives(self, device: Device, name: str, note: str) -> None:
        sql = f"SELECT note FROM playlist WHERE name = '{name}'"
        what = f"'{name}' ({note}) did not arrive on the {device.name}"
        self._stage.until(what, lambda: device.rows(sql) == [(note,)])
