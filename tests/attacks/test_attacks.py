"""Every attack gets nothing; and each succeeds when the check that it aims at is switched off."""

import subprocess
import sys
from contextlib import nullcontext

import pytest

from tests.attacks import on_devices
from tests.attacks.__main__ import AT_PRIMARIES, PROJECT
from tests.attacks.arena import SCHEMA, Arena, Rules


@pytest.fixture
def arena(world):
    """Makes one, whose primary begins in the context that the test is in."""
    made = []

    def make():
        primary = world.primary(SCHEMA, auth="user")
        rules = Rules()
        primary.register_function("user_signup", 2, rules.user_signup)
        primary.register_function("user_login", 2, rules.user_login)
        made.append(Arena(world.folder, world.address, world.folder / "primary.db"))
        made[-1].primary = primary
        made[-1].begin()
        return made[-1]

    yield make
    for one in made:
        one.close()


def named(attack):
    return attack.name.replace(" ", "_")


@pytest.mark.parametrize("attack", AT_PRIMARIES, ids=named)
def test_it_gets_nothing(arena, attack):
    with (attack.limits or nullcontext)():
        there = arena()
        assert attack.run(there) == ""
        assert there.victim_goes_on()
        assert there.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("attack", AT_PRIMARIES, ids=named)
def test_it_is_the_check_that_stops_it(arena, attack):
    with (attack.limits or nullcontext)():
        there = arena()
        with attack.off():
            assert attack.run(there) != ""


class Folder:
    """What attacks on devices need of an arena."""

    def __init__(self, folder):
        self.folder = folder / "devices"
        self.folder.mkdir()


@pytest.mark.parametrize("attack", on_devices.ATTACKS, ids=named)
def test_a_device_gives_nothing(tmp_path, attack):
    assert attack.run(Folder(tmp_path)) == ""


@pytest.mark.parametrize("attack", on_devices.ATTACKS, ids=named)
def test_it_is_the_check_that_stops_the_primary(tmp_path, attack):
    with attack.off():
        assert attack.run(Folder(tmp_path)) != ""


def test_the_script_says_what_attacks_on_a_process_got():
    """A part of it; ``python -m tests.attacks --slow`` is all."""
    words = ["delete a row of another", "guess a password", "large message", "unfinished", "behind a schema"]
    command = [sys.executable, "-m", "tests.attacks", *words]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("nothing") == len(words) + 1
