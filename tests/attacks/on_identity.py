"""Pretending to be somebody else, and asking for what somebody else may see."""

import json
import secrets
from contextlib import suppress
from dataclasses import replace
from unittest import mock

import msgspec

from octodb.runtime.primary_engine import PrimaryEngine
from octodb.runtime.surroundings import Surroundings
from octodb.storage import shapes
from octodb.storage.checksums import Checksums
from octodb.storage.meta import NodeTable
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.snapshot import SnapshotReader
from octodb.sync import primary
from octodb.sync.primary import PrimarySession, SessionPhase
from octodb.sync.sign_in_limits import SignInLimits
from octodb.wire.handshake import adoption_text, handshake_text
from octodb.wire.messages import (
    KNOWS_COPIES,
    Adopt,
    Adopted,
    AskHead,
    AskRows,
    AskSums,
    Challenge,
    Copied,
    Denied,
    Entries,
    Head,
    Login,
    ProblemReport,
    Prove,
    Push,
    RangeRows,
    SnapshotChunk,
    SnapshotStart,
    Sums,
    Unauthorized,
    Welcome,
)
from tests.attacks.arena import SECRET, attack_list, received
from tests.attacks.on_rows import _inserted, together
from tests.integration.raw_device import NODE_INFO, Closed
from tests.simulation.mutations import MUTATIONS

ATTACKS, attack = attack_list()


def answer(device, *kinds):
    """The first message of one of the kinds; None when the connection is closed or nothing comes."""
    try:
        return device.receive(kinds)
    except (Closed, TimeoutError, OSError):
        return None


def any_signature():
    return mock.patch.object(primary, "verify", return_value=True)


@attack(any_signature)
def sign_with_another_key(arena):
    device = arena.raw()
    key = arena.victim.hello.public_key
    device.hello = msgspec.structs.replace(device.hello, public_key=key, features=KNOWS_COPIES)
    device.prove()
    found = answer(device, Welcome, Copied, ProblemReport)
    return "" if isinstance(found, ProblemReport | None) else "the primary takes it for the victim"


def no_randomness():
    return mock.patch.object(Surroundings, "random_bytes", lambda self, count: bytes(count))


@attack(no_randomness)
def replay_what_was_signed_on_another_connection(arena):
    overheard = arena.raw()
    arena.join(overheard, "overheard", "x")
    overheard.__exit__()
    again = arena.raw()
    again.hello = msgspec.structs.replace(overheard.hello, features=KNOWS_COPIES)
    first = arena.raw()
    first.take_key_of(overheard)
    first.hello = again.hello
    first.send(first.hello)
    signature = first.sign(handshake_text(first.hello, first.receive(Challenge), NODE_INFO))
    again.send(again.hello)
    again.receive(Challenge)
    again.send(Prove(signature, NODE_INFO))
    found = answer(again, Welcome, Copied, ProblemReport)
    return "" if isinstance(found, ProblemReport | None) else "the primary takes it for the other device"


def any_token():
    return MUTATIONS["clone-check"]()


@attack(any_token)
def use_a_stolen_key_without_the_session_token(arena):
    device = arena.raw()
    device.take_key_of(arena.victim)
    device.hello = msgspec.structs.replace(device.hello, session_token=secrets.token_bytes(16), features=KNOWS_COPIES)
    device.prove()
    found = answer(device, Welcome, Copied)
    return "the victim's node" if isinstance(found, Welcome) and found.node_id == arena.victims_node else ""


def any_adoption():
    def adopt(self, original, public_key, token, info, claims):
        return self.find(public_key), [], 0

    return together(any_signature(), mock.patch.object(PrimaryStore, "adopt_copy", adopt))


@attack(any_adoption)
def adopt_the_key_of_another_device(arena):
    mine = arena.attacker()
    mine.__exit__()
    copy = arena.raw()
    copy.take_key_of(mine)
    copy.hello = msgspec.structs.replace(copy.hello, session_token=b"wrong", features=KNOWS_COPIES)
    challenge = copy.prove()
    assert isinstance(answer(copy, Copied), Copied)
    key = arena.victim.hello.public_key
    copy.send(Adopt(key, copy.sign(adoption_text(copy.hello, challenge, key)), []))
    found = answer(copy, Adopted)
    return "the victim's node" if found is not None and found.node_id == arena.victims_node else ""


def unconfirmed():
    def take_all(self):
        taken = list(self._pushes)
        self._pushes.clear()
        return taken

    phases = {SessionPhase.SERVING, SessionPhase.CONFIRMING, SessionPhase.WELCOMING}
    handlers = {Push: (PrimarySession._HANDLERS[Push][0], phases)}
    return together(
        mock.patch.dict(PrimarySession._HANDLERS, handlers), mock.patch.object(PrimaryEngine, "_take_batch", take_all)
    )


@attack(unconfirmed)
def push_before_the_session_token_is_confirmed(arena):
    device = arena.attacker()
    again = arena.again(device)
    again.push(1, _inserted(again, 710))
    with suppress(Closed, TimeoutError, OSError):
        again._socket.settimeout(1.0)
        again.until_closed()
    return "it took effect" if arena.rows("SELECT 1 FROM t WHERE id = 710") else ""


def revocation_is_forgotten():
    one = NodeTable._one

    def never_revoked(self, where, value):
        found = one(self, where, value)
        return found and replace(found, revoked=False)

    return mock.patch.object(NodeTable, "_one", never_revoked)


@attack(revocation_is_forgotten)
def come_back_after_being_revoked(arena):
    device = arena.attacker()
    device.__exit__()
    arena.admin(f"PRAGMA revoke_node={device.welcome.node_id}")
    again = arena.raw()
    again.take_key_of(device)
    again.hello = msgspec.structs.replace(again.hello, session_token=device.welcome.session_token)
    again.prove()
    return "a session" if answer(again, Welcome) is not None else ""


@attack(lambda: mock.patch.object(PrimaryEngine, "_take_over", return_value=None))
def keep_two_connections_of_one_device(arena):
    first = arena.attacker()
    second = arena.raw()
    second.take_key_of(first)
    second.hello = msgspec.structs.replace(second.hello, session_token=first.welcome.session_token)
    second.prove()
    second.welcome = second.receive(Welcome)
    second.subscribe()
    second.receive(SnapshotStart)
    first.push(1, _inserted(first, 711))
    received(first, 0.3)
    return "both are served" if arena.rows("SELECT 1 FROM t WHERE id = 711") else ""


# --- reading ----------------------------------------------------------------------------------------------


def has_secret(messages):
    return SECRET in repr(messages) or SECRET.encode() in b"".join(
        entry.body for message in messages if isinstance(message, Entries) for entry in message.entries
    )


@attack(MUTATIONS["owner-filter"])
def subscribe_to_what_others_may_see(arena):
    device = arena.attacker()
    again = arena.again(device)
    again.subscribe(epoch=again.challenge.epoch)
    return "the victim's entries" if has_secret(received(again)) else ""


class AnyUser(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash(int(self))


def any_download():
    begin = SnapshotReader.__init__

    def for_anybody(self, db, user_id, *arguments):
        begin(self, db, AnyUser(user_id), *arguments)

    return mock.patch.object(SnapshotReader, "__init__", for_anybody)


@attack(any_download)
def go_on_with_the_download_of_another_user(arena):
    owner = arena.attacker()
    user = owner.welcome.user_id
    for number in range(45):
        row = (800 + number, SECRET + "x" * 100_000, user)
        assert arena.push(owner, ("INSERT", "t", (), row)) == ""
    cut = arena.again(owner)
    cut.subscribe()
    token = cut.receive(SnapshotStart).token
    cut.receive(SnapshotChunk)
    cut.__exit__()
    again = arena.again(arena.attacker())
    again.subscribe(resume=(token, 1))
    return "the other's rows" if has_secret(received(again)) else ""


def ask(arena, question, kind):
    device = arena.attacker()
    device.send(AskHead(1.0))
    head = device.receive(Head)
    device.send(question(head.through))
    return answer(device, kind)


def everybodys_rows():
    begin = Checksums.__init__
    return mock.patch.object(Checksums, "__init__", lambda self, db, owners=None: begin(self, db, None))


@attack(everybodys_rows)
def ask_for_the_rows_of_another_user(arena):
    found = ask(arena, lambda at: AskRows(at + 99, "t", [], []), RangeRows)
    return "the victim's rows" if found is not None and SECRET in repr(found.rows) else ""


def sums_of_all():
    of = Checksums.of

    def for_anybody(self, shape, low, high):
        self._owners = None
        return of(self, shape, low, high)

    return mock.patch.object(Checksums, "of", for_anybody)


@attack(sums_of_all)
def ask_for_sums_of_the_rows_of_another_user(arena):
    found = ask(arena, lambda at: AskSums(at + 99, "t", [1], []), Sums)
    return "how many rows others have" if found is not None and sum(rows for _, rows, _ in found.sums) else ""


def any_table_asked():
    def table(self, name):
        try:
            shape = shapes._read_table(self._db, name)
        except (IndexError, TypeError, AssertionError):
            return None
        return shape if shape.columns else None

    return together(
        mock.patch.object(Checksums, "table", table),
        mock.patch.object(Checksums, "_range", return_value=("1", [])),
    )


@attack(any_table_asked)
def ask_for_tables_that_are_not_replicated(arena):
    got = []
    for table in ("private_notes", "_octodb_nodes", "plain", "sqlite_schema", 't" UNION SELECT * FROM "private_notes'):
        found = ask(arena, lambda at, table=table: AskRows(at + 99, table, [], []), RangeRows)
        if found is not None and found.rows:
            got.append(table)
    return ", ".join(got)


# --- signing in -------------------------------------------------------------------------------------------


@attack(lambda: mock.patch.object(SignInLimits, "ask", return_value=0.0))
def guess_a_password_with_ever_new_devices(arena):
    for guess in [*range(100, 160), int(arena.victim_password)]:
        device = arena.raw()
        device.prove()
        device.receive(Unauthorized)
        device.send(Login(json.dumps({"name": "victim", "password": str(guess)})))
        found = answer(device, Welcome, Denied)
        device.__exit__()
        if isinstance(found, Welcome):
            return "the password"
    return ""


@attack(
    lambda: together(
        mock.patch.object(SignInLimits, "ask", return_value=0.0), mock.patch.object(primary, "_SIGN_INS_MAX", 1000)
    )
)
def guess_a_password_on_one_connection(arena):
    device = arena.raw()
    device.prove()
    device.receive(Unauthorized)
    for guess in [*range(100, 160), int(arena.victim_password)]:
        try:
            device.send(Login(json.dumps({"name": "victim", "password": str(guess)})))
        except Closed:
            return ""
        found = answer(device, Welcome, Denied, ProblemReport)
        if not isinstance(found, Denied):
            return "the password" if isinstance(found, Welcome) else ""
    return ""
