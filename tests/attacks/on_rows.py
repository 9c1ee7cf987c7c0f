"""Forged transactions: rows of others, everybody's, of octodb and SQLite, the schema, other nodes' row ids, numbers."""

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import apsw

from octodb.log.embedded_log import EmbeddedLog
from octodb.model.transactions import Op, decode_body, encode_body
from octodb.sql.tokens import fold_name
from octodb.storage import apply, shapes
from octodb.storage.apply import Applier
from octodb.storage.row_id_ranges import RowIdRanges
from octodb.wire.messages import ProblemReport
from tests.attacks.arena import GLOBAL_ROW, SECRET, VICTIMS_ROW, attack_list, changes
from tests.integration.raw_device import Closed
from tests.simulation.mutations import MUTATIONS

ATTACKS, attack = attack_list()
NO = apsw.no_change


def together(*contexts):
    stack = ExitStack()
    for context in contexts:
        stack.enter_context(context)
    return stack


def any_row():
    """Changes find rows whoever owns them."""
    execute = Applier._execute

    def whoever(self, shape, op, old, new, owner):
        return execute(self, shape, op, old, new, None)

    return mock.patch.object(Applier, "_execute", whoever)


def believed():
    """The owner that a changeset claims is believed."""
    return together(
        mock.patch.object(apply, "_check_owner", return_value=None),
        mock.patch.object(apply, "_with_owner", lambda shape, row, owner: row),
        any_row(),
    )


def any_table():
    """Changes are applied to whatever table they name."""

    def shape_for(self, change, name):
        shape = self._shapes.tables.get(fold_name(name)) or shapes._read_table(self._db, name)
        return shape if shape.key else replace(shape, key=(0,))

    return together(mock.patch.object(Applier, "_shape_for", shape_for), believed())


@attack(any_row)
def delete_a_row_of_another_user(arena):
    device = arena.attacker()
    arena.push(device, ("DELETE", "t", (VICTIMS_ROW, SECRET, device.welcome.user_id), ()))
    return "" if arena.rows("SELECT 1 FROM t WHERE id = ?", VICTIMS_ROW) else "the row is gone"


@attack(any_row)
def update_a_row_of_another_user(arena):
    device = arena.attacker()
    me = device.welcome.user_id
    arena.push(device, ("UPDATE", "t", (VICTIMS_ROW, SECRET, me), (NO, "mine", me)))
    return "" if arena.rows("SELECT a FROM t WHERE id = ?", VICTIMS_ROW) == [(SECRET,)] else "the row was changed"


@attack(believed)
def take_a_row_of_another_user(arena):
    device = arena.attacker()
    arena.push(device, ("UPDATE", "t", (VICTIMS_ROW, NO, arena.victims_user), (NO, NO, device.welcome.user_id)))
    arena.push(device, ("UPDATE", "t", (VICTIMS_ROW, SECRET, arena.victims_user), (NO, "mine", arena.victims_user)))
    found = arena.rows("SELECT a, row_owner FROM t WHERE id = ?", VICTIMS_ROW)
    return "" if found == [(SECRET, arena.victims_user)] else "the row was taken"


@attack(believed)
def make_a_row_of_another_user(arena):
    device = arena.attacker()
    arena.push(device, ("INSERT", "t", (), (700, "from the attacker", arena.victims_user)))
    return (
        "the row is there" if arena.rows("SELECT 1 FROM t WHERE row_owner = ? AND id = 700", arena.victims_user) else ""
    )


@attack(believed)
def make_a_row_for_everybody(arena):
    device = arena.attacker()
    arena.push(device, ("INSERT", "t", (), (701, "for everybody", "*")))
    return "the row is there" if arena.rows("SELECT 1 FROM t WHERE id = 701") else ""


@attack(believed)
def give_an_own_row_to_everybody(arena):
    device = arena.attacker()
    me = device.welcome.user_id
    arena.push(device, ("INSERT", "t", (), (702, "own", me)))
    arena.push(device, ("UPDATE", "t", (702, NO, me), (NO, NO, "*")))
    return "it is everybody's" if arena.rows("SELECT 1 FROM t WHERE id = 702 AND row_owner = '*'") else ""


@attack(any_row)
def change_a_row_of_everybody(arena):
    device = arena.attacker()
    me = device.welcome.user_id
    arena.push(device, ("UPDATE", "t", (GLOBAL_ROW, "everybody", me), (NO, "mine", me)))
    return "" if arena.rows("SELECT a FROM t WHERE id = ?", GLOBAL_ROW) == [("everybody",)] else "it was changed"


@attack(believed)
def delete_a_row_of_everybody_as_everybody(arena):
    device = arena.attacker()
    arena.push(device, ("DELETE", "t", (GLOBAL_ROW, "everybody", "*"), ()))
    return "" if arena.rows("SELECT 1 FROM t WHERE id = ?", GLOBAL_ROW) else "it is gone"


@attack(any_table)
def write_into_a_private_table(arena):
    device = arena.attacker()
    arena.push(device, ("INSERT", "private_notes", (), (9, "from outside", device.welcome.user_id)))
    return "the row is there" if arena.rows("SELECT 1 FROM private_notes WHERE id = 9") else ""


@attack(any_table)
def write_into_a_table_without_owners(arena):
    device = arena.attacker()
    arena.push(device, ("INSERT", "plain", (), (9, "from outside")))
    return "the row is there" if arena.rows("SELECT 1 FROM plain WHERE id = 9") else ""


@attack(any_table)
def turn_authorization_off(arena):
    device = arena.attacker()
    arena.push(device, ("DELETE", "_octodb_meta", ("auth", "user"), ()))
    arena.push(device, ("INSERT", "_octodb_meta", (), ("auth", "none")))
    return "" if arena.rows("SELECT value FROM _octodb_meta WHERE key = 'auth'") == [("user",)] else "auth=none"


@attack(any_table)
def take_a_session_by_the_node_table(arena):
    device = arena.attacker()
    columns = [name for (name,) in arena.rows("SELECT name FROM pragma_table_info('_octodb_nodes')")]
    shape = f"CREATE TABLE _octodb_nodes ({', '.join(columns)}, PRIMARY KEY (node_id))"
    old, new = [NO] * len(columns), [NO] * len(columns)
    old[columns.index("node_id")] = device.welcome.node_id
    at = columns.index("user_id")
    old[at], new[at] = device.welcome.user_id, arena.victims_user
    arena.push(device, ("UPDATE", "_octodb_nodes", tuple(old), tuple(new)), shapes=shape)
    found = arena.rows("SELECT user_id FROM _octodb_nodes WHERE node_id = ?", device.welcome.node_id)
    return "" if found == [(device.welcome.user_id,)] else "the device is the victim's now"


@attack(any_table)
def write_into_a_table_of_sqlite(arena):
    device = arena.attacker()
    # a changeset is bytes: the name in it may be any (sqlite.org/session/changesetfmt.html)
    shape = "CREATE TABLE zqlite_sequence (name PRIMARY KEY, seq)"
    forged = changes(("INSERT", "zqlite_sequence", (), ("plain", 10**9)), shapes=shape)
    forged = forged.replace(b"zqlite_sequence", b"sqlite_sequence")
    arena.push_body(device, encode_body(1 << 40, [Op(0, forged)]))
    return "the counter moved" if arena.rows("SELECT 1 FROM sqlite_sequence WHERE seq = ?", 10**9) else ""


def schema_is_taken():
    """A text in a device's transaction is run."""
    judge = EmbeddedLog._judge

    def run_text(self, user_id, data, node_id):
        for op in decode_body(data).ops:
            if isinstance(op.payload, str):
                self._db.execute(op.payload)
                return None
        return judge(self, user_id, data, node_id)

    return mock.patch.object(EmbeddedLog, "_judge", run_text)


@attack(schema_is_taken)
def change_the_schema(arena):
    device = arena.attacker()
    arena.push_body(device, encode_body(1 << 40, [Op(0, "CREATE TABLE taken (a)")]))
    return "the table is there" if arena.rows("SELECT 1 FROM sqlite_schema WHERE name = 'taken'") else ""


def any_id():
    return mock.patch.object(RowIdRanges, "check", return_value=None)


@attack(any_id)
def take_row_ids_that_another_node_has_still_to_give(arena):
    device = arena.attacker()
    next_id = (arena.victims_node << 32) | 1
    arena.push(device, ("INSERT", "t", (), (next_id, "in the way", device.welcome.user_id)))
    row = (next_id, "the victim's first", arena.victims_user)
    return "the victim's row was refused" if arena.push(arena.victim, ("INSERT", "t", (), row)) else ""


@attack(any_id)
def take_row_ids_that_the_primary_has_still_to_give(arena):
    device = arena.attacker()
    row_id = (1 << 32) | 1
    arena.push(device, ("INSERT", "t", (), (row_id, "in the way", device.welcome.user_id)))
    return "the id is taken" if arena.rows("SELECT 1 FROM t WHERE id = ?", row_id) else ""


@attack(lambda: mock.patch.object(apply, "_check_values", return_value=None))
def move_a_row_into_another_nodes_range(arena):
    device = arena.attacker()
    me, theirs = device.welcome.user_id, (arena.victims_node << 32) | 99
    arena.push(device, ("INSERT", "t", (), (703, "own", me)))

    def number(value):
        return b"\x01" + value.to_bytes(8, "big")

    update = b"T\x03\x01\x00\x00t\x00\x17\x00" + number(703) + number(0) + number(me)
    update += number(theirs) + number(0) + number(me)
    arena.push_body(device, encode_body(1 << 40, [Op(0, update)]))
    return "the row moved" if arena.rows("SELECT 1 FROM t WHERE id = ?", theirs) else ""


# --- numbers ----------------------------------------------------------------------------------------------


def gaps_are_taken():
    append_one = EmbeddedLog._append_one

    def any_number(self, request, pushed, batch):
        batch.set_last_nonce(request.node_id, pushed.nonce - 1)
        return append_one(self, request, pushed, batch)

    return mock.patch.object(EmbeddedLog, "_append_one", any_number)


def _inserted(device, row_id):
    return encode_body(1 << 40, [Op(0, changes(("INSERT", "t", (), (row_id, "own", device.welcome.user_id))))])


def _closed_with(device):
    try:
        return device.receive(ProblemReport).code
    except (Closed, TimeoutError):
        return ""


@attack(gaps_are_taken)
def leave_numbers_out(arena):
    device = arena.attacker()
    device.nonce = 6
    arena.push_body(device, _inserted(device, 704))
    return "it took effect" if arena.rows("SELECT 1 FROM t WHERE id = 704") else ""


@attack(MUTATIONS["dedupe"])
def have_one_transaction_take_effect_twice(arena):
    device = arena.attacker()
    me = device.welcome.user_id
    arena.push_body(device, _inserted(device, 705))
    arena.push(device, ("DELETE", "t", (705, "own", me), ()))
    device.push(1, _inserted(device, 705))
    arena.push(device, ("INSERT", "t", (), (706, "the end", me)))
    return "the row is there again" if arena.rows("SELECT 1 FROM t WHERE id = 705") else ""


@attack(MUTATIONS["dedupe"])
def put_another_transaction_under_a_used_number(arena):
    device = arena.attacker()
    arena.push_body(device, _inserted(device, 707))
    device.push(1, _inserted(device, 708))
    _closed_with(device)
    return "it took effect" if arena.rows("SELECT 1 FROM t WHERE id = 708") else ""
