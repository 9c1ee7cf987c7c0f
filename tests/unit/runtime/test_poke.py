"""Pokes between processes: a hint that arrives at once where it can, and never an error where it cannot."""

import asyncio
import os
import pathlib
import select
import socket
import stat

import pytest

from octodb.runtime.poke import POKE_SUFFIX, PokeReceiver, PokeSender
from tests.integration.conftest import free_port


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.db")


def poked_by(path, *actions):
    """How often a receiver was poked by the time it had heard of everything that ``actions`` sent."""

    async def listen():
        pokes, heard = [], asyncio.Event()
        receiver = PokeReceiver(path, lambda: (pokes.append(1), heard.set()))
        mode = os.lstat(path + POKE_SUFFIX).st_mode
        for action in actions:
            action()
        last = PokeSender(path)
        last.poke()
        async with asyncio.timeout(5):
            await heard.wait()
        last.close()
        receiver.close()
        return len(pokes), mode

    return asyncio.run(listen())


def test_a_poke_arrives_and_many_are_one(path):
    sender = PokeSender(path)
    count, mode = poked_by(path, sender.poke, sender.poke, sender.poke)
    sender.close()
    assert count == 1
    assert mode == stat.S_IFREG | 0o600
    assert not os.path.exists(path + POKE_SUFFIX)


def test_a_fifo_in_its_place_makes_nobody_wait(path):
    os.mkfifo(path + POKE_SUFFIX)
    PokeSender(path).poke()


def test_without_an_engine_it_is_silence(path):
    sender = PokeSender(path)
    sender.poke()
    sender.close()


@pytest.mark.parametrize("text", ["", "x", "1 2 3", "80 zz", "99999999 00", "-1 00"])
def test_a_damaged_file_is_silence(path, text):
    with open(path + POKE_SUFFIX, "w") as file:
        file.write(text)
    sender = PokeSender(path)
    sender.poke()
    sender.close()


def test_what_a_killed_engine_left_is_replaced(path):
    pathlib.Path(path + POKE_SUFFIX).write_text(f"{free_port()} 00ff")
    assert poked_by(path)[0] == 1


def test_more_than_the_socket_holds_waits_for_nobody(path):
    sender = PokeSender(path)
    assert poked_by(path, *[sender.poke] * 2000)[0] >= 1
    sender.close()


def test_it_listens_to_those_who_know_the_word(path):
    def stranger():
        port = int(pathlib.Path(path + POKE_SUFFIX).read_text().split()[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"\x01", ("127.0.0.1", port))

    async def listen():
        pokes = []
        receiver, friend = PokeReceiver(path, lambda: pokes.append(1)), PokeSender(path)
        for sends, heard in ((stranger, 0), (friend.poke, 1)):
            sends()
            select.select([receiver._socket], [], [], 5)
            receiver._read()
            assert len(pokes) == heard
        receiver.close()
        friend.close()

    asyncio.run(listen())


def test_no_folder_for_it_is_no_error(tmp_path):
    async def listen():
        PokeReceiver(str(tmp_path / "none" / "app.db"), lambda: None).close()

    asyncio.run(listen())
