"""Taking time, memory and connections that others need."""

import selectors
import socket
import time
from contextlib import suppress
from unittest import mock

import msgspec

from octodb.runtime import framed_connection, primary_engine
from octodb.runtime.framed_connection import FramedConnection
from octodb.sync import primary, strangers
from octodb.sync.allowance import Allowance
from octodb.sync.strangers import Strangers
from octodb.wire.frames import FRAME_BYTES_MAX, FrameDecoder, encode_frames
from octodb.wire.handshake import adoption_text
from octodb.wire.messages import (
    KNOWS_COPIES,
    MESSAGE_BYTES_MAX,
    Adopt,
    Adopted,
    AskSums,
    Copied,
    Ping,
    ProblemReport,
    SnapshotStart,
    Sums,
    Unauthorized,
    encode_message,
)
from tests.attacks.arena import attack_list, still_open
from tests.attacks.on_rows import together
from tests.integration.raw_device import Closed

ATTACKS, attack = attack_list()
MORE = 0x8000_0000
UNDER_WAY = (Closed, TimeoutError, OSError)


def constants(module, **values):
    """A context in which constants have other values."""
    return lambda: together(*(mock.patch.object(module, name, value) for name, value in values.items()))


def trickle(device, data, seconds, every_s):
    """Send ``data`` byte by byte for a time. Whether the connection is open at the end."""
    end = time.monotonic() + seconds
    for place in range(len(data)):
        if time.monotonic() > end:
            break
        try:
            device.send_bytes(data[place : place + 1])
        except Closed:
            return False
        if not still_open(device, every_s):
            return False
    return True


@attack(
    constants(primary, _UNPROVED_S_MAX=3600.0),
    limits=constants(primary, _UNPROVED_S_MAX=1.0),
    slow=True,
)
def send_a_hello_byte_by_byte(arena):
    device = arena.raw()
    seconds = arena.seconds(primary._UNPROVED_S_MAX, 1.0)
    data = encode_frames(encode_message(device.hello))
    return "the connection stays" if trickle(device, data, seconds + 2.5, (seconds + 2.5) / 100) else ""


@attack(
    constants(primary, _UNPROVED_S_MAX=3600.0),
    limits=constants(primary, _UNPROVED_S_MAX=1.0),
    slow=True,
)
def never_answer_the_challenge(arena):
    device = arena.raw()
    device.send(device.hello)
    return "the connection stays" if still_open(device, arena.seconds(primary._UNPROVED_S_MAX, 1.0) + 2.5) else ""


@attack(
    constants(primary, _SILENCE_S_MAX=3600.0),
    limits=constants(primary, _SILENCE_S_MAX=1.0),
    slow=True,
)
def never_finish_a_message(arena):
    device = arena.attacker()
    seconds = arena.seconds(primary._SILENCE_S_MAX, 1.0)
    device.send_bytes((FRAME_BYTES_MAX | MORE).to_bytes(4, "big") + bytes(100_000))
    return "the connection stays" if trickle(device, bytes(200), seconds + 2.5, (seconds + 2.5) / 100) else ""


@attack(constants(framed_connection, HANDSHAKE_BYTES_MAX=MESSAGE_BYTES_MAX))
def send_a_large_message_before_any_proof(arena):
    device = arena.raw()
    with suppress(*UNDER_WAY):
        for _ in range(8):
            device.send_bytes((FRAME_BYTES_MAX | MORE).to_bytes(4, "big") + bytes(FRAME_BYTES_MAX))
    return "the primary holds 8 MiB for a stranger" if still_open(device, 0.5) else ""


@attack(lambda: mock.patch.object(FrameDecoder, "_check", return_value=None))
def announce_a_frame_above_all_limits(arena):
    device = arena.attacker()
    with suppress(*UNDER_WAY):
        device.send_bytes((0x0FFF_FFFF).to_bytes(4, "big") + bytes(4 << 20))
    return "the primary waits for 256 MiB" if still_open(device, 0.5) else ""


@attack(constants(framed_connection, MESSAGE_BYTES_MAX=1 << 40))
def send_a_message_without_end(arena):
    device = arena.attacker()
    with suppress(*UNDER_WAY):
        for _ in range(80):
            device.send_bytes((FRAME_BYTES_MAX | MORE).to_bytes(4, "big") + bytes(FRAME_BYTES_MAX))
    return "the primary holds 80 MiB" if still_open(device, 1.0) else ""


@attack(
    constants(primary_engine, _HELD_BYTES_MAX=1 << 40),
    limits=constants(primary_engine, _HELD_BYTES_MAX=8 << 20),
)
def leave_messages_unfinished_on_many_connections(arena):
    count = 6 if arena.primary is not None else 12
    devices = [arena.attacker() for _ in range(count)]
    megabytes = arena.seconds(50, 3)
    for device in devices:
        with suppress(*UNDER_WAY):
            for _ in range(megabytes):
                device.send_bytes((FRAME_BYTES_MAX | MORE).to_bytes(4, "big") + bytes(FRAME_BYTES_MAX))
    return "" if open_of(devices, 2.5) < count else f"the primary holds {count * megabytes} MiB"


def open_of(devices, wait_s=1.0):
    """How many connections are open after a time."""
    deadline = time.monotonic() + wait_s
    with selectors.DefaultSelector() as selector:
        for device in devices:
            selector.register(device._socket, selectors.EVENT_READ)
        while (remaining := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(remaining):
                try:
                    ended = not key.fileobj.recv(65536)
                except OSError:
                    ended = True
                if ended:
                    selector.unregister(key.fileobj)
        return len(selector.get_map())


@attack(
    lambda: mock.patch.object(Strangers, "_crowded", return_value=[]),
    limits=constants(strangers, UNPROVED_OF_ADDRESS_MAX=40),
)
def hold_many_connections_without_proof(arena):
    limit = strangers.UNPROVED_OF_ADDRESS_MAX
    devices = [arena.raw() for _ in range(limit + 30)]
    return "" if open_of(devices) <= limit else f"more than {limit} connections"


@attack(
    lambda: mock.patch.object(Strangers, "_crowded", return_value=[]),
    limits=constants(strangers, WAITING_OF_ADDRESS_MAX=20),
)
def hold_many_connections_that_wait_to_be_admitted(arena):
    limit = strangers.WAITING_OF_ADDRESS_MAX
    devices = []
    for _ in range(limit + 20):
        devices.append(arena.raw())
        devices[-1].prove()
        devices[-1].receive(Unauthorized)
    return "" if open_of(devices) <= limit else f"more than {limit} connections"


def newcomers_give_way():
    def crowded(self, pool, address, of_address_max, count_max):
        return [list(pool._by_address[address])[-1]] if pool.of(address) > of_address_max else []

    return mock.patch.object(Strangers, "_crowded", crowded)


@attack(newcomers_give_way, limits=constants(strangers, UNPROVED_OF_ADDRESS_MAX=40))
def lock_others_out_by_a_crowd_of_silent_connections(arena):
    for _ in range(strangers.UNPROVED_OF_ADDRESS_MAX):
        arena.raw()
    try:
        arena.attacker()
    except UNDER_WAY:
        return "nobody else gets in"
    return ""


def patient_with_those_who_do_not_read():
    return together(
        mock.patch.object(framed_connection, "_UNSENT_BYTES_STRANGER", 1 << 40),
        mock.patch.object(FramedConnection, "pause_writing", return_value=None),
    )


@attack(patient_with_those_who_do_not_read)
def ask_without_reading_the_answers(arena):
    device = arena.raw()
    device._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    device.prove()
    device.receive(Unauthorized)
    device._socket.settimeout(5)
    pings = encode_frames(encode_message(Ping(1.0))) * 10_000
    try:
        for _ in range(60):
            device.send_bytes(pings)
    except UNDER_WAY:
        return ""
    return "it holds the answers to 600,000 questions"


@attack(
    lambda: mock.patch.object(Allowance, "take", return_value=True),
    limits=constants(primary, _QUESTIONS_BURST=50),
)
def have_rows_summed_without_pause(arena):
    device = arena.attacker()
    allowed = int(primary._QUESTIONS_BURST + 200)
    computed = 0
    for _ in range(allowed + 100):
        device.send(AskSums(1 << 40, "", [], []))
        computed += device.receive(Sums).seq > 0
    return "" if computed < allowed else f"{computed} answers"


@attack(
    lambda: mock.patch.object(Allowance, "take", return_value=True),
    limits=constants(primary_engine, _DOWNLOADS_BURST=5),
)
def download_again_and_again(arena):
    device = arena.attacker()
    allowed = int(primary_engine._DOWNLOADS_BURST)
    for _ in range(allowed + 10):
        device = arena.again(device)
        device.subscribe()
        try:
            device.receive(SnapshotStart)
        except UNDER_WAY:
            return ""
    return f"{allowed + 10} downloads"


@attack(
    lambda: mock.patch.object(Allowance, "take", return_value=True),
    limits=constants(primary_engine, _ADOPTIONS_BURST=3),
)
def have_ever_new_nodes_made_as_copies(arena):
    device = arena.attacker()
    device.__exit__()
    allowed = int(primary_engine._ADOPTIONS_BURST)
    made = 0
    for _ in range(allowed + 5):
        copy, new = arena.raw(), arena.raw()
        copy.take_key_of(device)
        copy.hello = msgspec.structs.replace(copy.hello, session_token=b"wrong", features=KNOWS_COPIES)
        challenge = copy.prove()
        copy.receive(Copied)
        key = new.hello.public_key
        copy.send(Adopt(key, new.sign(adoption_text(copy.hello, challenge, key)), []))
        with suppress(*UNDER_WAY):
            made += isinstance(copy.receive((Adopted, ProblemReport)), Adopted)
    return "" if made <= allowed else f"{made} nodes"


@attack(
    constants(primary_engine, _CLOSING_S_MAX=3600.0),
    limits=constants(primary_engine, _CLOSING_S_MAX=1.0),
    slow=True,
)
def keep_a_closed_connection_by_not_reading(arena):
    device = arena.attacker()
    user = device.welcome.user_id
    for number in range(7):
        assert arena.push(device, ("INSERT", "t", (), (2000 + number, "x" * 2_000_000, user))) == ""
    again = arena.again(device)
    again._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    again.subscribe()
    again.receive(SnapshotStart)
    nodes = arena.served()
    arena.wait_until_all_is_sent()
    again.send_bytes(b"\xff" * 8)  # no frame: the primary closes
    deadline = time.monotonic() + arena.seconds(primary_engine._CLOSING_S_MAX, 1.0) + 4.0
    while time.monotonic() < deadline:
        if arena.served() < nodes:
            return ""
        time.sleep(0.1)
    return "the primary keeps it"
