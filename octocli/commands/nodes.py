"""``octodb nodes``: the devices a primary knows and those that wait; admit, refuse or cut off one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from octocli.actions import ActionsOrList, print_objects
from octocli.options import common_options, terminal_of, uri_argument

if TYPE_CHECKING:
    import octodb

__all__ = ["command"]

_KEY_DIGITS_MIN: Final = 6
_KEY_DIGITS_SHOWN: Final = 12
_COLUMNS: Final = (
    "node_id", "user_id", "state", "public_key", "address", "hostname", "os", "octodb", "extra", "last_seen",
)  # fmt: skip


@click.group("nodes", cls=ActionsOrList, short_help="A primary's devices: list, authorize, refuse, revoke.")
def command() -> None:
    """The devices of a primary, beside the process that serves it or without one.

    `octodb nodes [URI]` lists those that are known, and those that wait to be admitted. A node is named by its
    id, its public key, or the first digits of that.
    """


@command.command("list", hidden=True)
@uri_argument
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.option("--state", type=click.Choice(["connected", "known", "revoked", "waiting"]), help="Only these.")
@common_options
@click.pass_context
def _list(ctx: click.Context, uri: str | None, as_json: bool, state: str | None) -> None:
    """List the devices of a primary."""
    from octocli.primary import open_beside_server

    terminal = terminal_of(ctx)
    with contextlib.closing(open_beside_server(uri, why="devices are known to primaries")) as conn:
        found = [node for node in _nodes(conn) if state is None or node["state"] == state]
    if not found and not as_json:
        terminal.say("no device is known here yet" if state is None else f"no device is {state}")
        return
    print_objects(terminal, found, _COLUMNS, as_json=as_json, shown=_shown)


@command.command("authorize")
@click.argument("node", metavar="KEY")
@uri_argument
@click.option(
    "--user", type=click.IntRange(min=0), metavar="ID", help="Whose device it is; 0 (default) makes a new user."
)
@common_options
@click.pass_context
def _authorize(ctx: click.Context, node: str, uri: str | None, user: int | None) -> None:
    """Admit the device with this public key, whether it waits or comes later."""
    from octocli.primary import open_beside_server

    with contextlib.closing(open_beside_server(uri, why="devices are known to primaries")) as conn:
        key = _key_of(conn, node, known_only=False)
        node_id, user_id = _admit(conn, key, "secondary" if user is None else str(user), has_user=user is not None)
    terminal_of(ctx).say(f"admitted: node {node_id} of user {user_id}")


@command.command("refuse")
@click.argument("node", metavar="KEY")
@uri_argument
@click.option("--reason", default="not authorized", metavar="TEXT", help="What its user reads.")
@common_options
@click.pass_context
def _refuse(ctx: click.Context, node: str, uri: str | None, reason: str) -> None:
    """Refuse a device that waits; it may ask again."""
    from octocli.primary import open_beside_server

    with contextlib.closing(open_beside_server(uri, why="devices are known to primaries")) as conn:
        key = _key_of(conn, node, known_only=False)
        _admit(conn, key, f"-1:{reason}", has_user=False)
    terminal_of(ctx).say("refused")


@command.command("revoke")
@click.argument("node", metavar="KEY|ID")
@uri_argument
@common_options
@click.pass_context
def _revoke(ctx: click.Context, node: str, uri: str | None) -> None:
    """Cut a device off, at once and for good, with the copies of its file.

    What it had sent stays. It keeps its data and its queue, and is told.
    """
    from octocli.primary import open_beside_server

    with contextlib.closing(open_beside_server(uri, why="devices are known to primaries")) as conn:
        name = node if _is_id(node) else _key_of(conn, node, known_only=True)
        _run(conn, "revoke_node", name)
    terminal_of(ctx).say(f"revoked: {node}")


def _nodes(conn: octodb.Connection) -> list[dict[str, Any]]:
    """Devices only: the primary itself is the one that is looked at."""
    cursor = conn.execute("PRAGMA nodes")
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    return [node for node in found if node["node_type"] != "primary"]


def _shown(name: str, value: Any) -> Any:
    if name == "public_key":
        return str(value)[:_KEY_DIGITS_SHOWN]
    return "" if value is None or (name in {"node_id", "user_id"} and not value) else value


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _KEY_DIGITS_SHOWN


def _key_of(conn: octodb.Connection, text: str, *, known_only: bool) -> str:
    """The whole public key that begins with ``text``. Raises Failure where none does, or several do."""
    from octocli.failure import Exit, Failure

    wanted = text.lower()
    keys = sorted({node["public_key"] for node in _nodes(conn) if node["public_key"].startswith(wanted)})
    if len(keys) == 1 and len(wanted) >= _KEY_DIGITS_MIN:
        return str(keys[0])
    if not keys and len(wanted) == 64 and not known_only:
        return wanted  # it has not come yet
    if len(wanted) < _KEY_DIGITS_MIN:
        why = f"at least {_KEY_DIGITS_MIN} digits of the key are needed"
    else:
        why = f"{len(keys)} keys begin so" if keys else "it is neither known nor waiting"
    raise Failure(f"which device is {text}?", why=why, fix="octodb nodes lists them", code=Exit.USAGE)


def _admit(conn: octodb.Connection, key: str, what: str, *, has_user: bool) -> tuple[int, int]:
    """By the PRAGMA for the primary's mode. Raises Failure where ``--user`` has no meaning."""
    from octocli.failure import Exit, Failure

    mode = (conn.sync_status.get("auth") or {}).get("mode")
    if mode == "user":
        rows = _run(conn, "authorize_user", f"{key}:{'0' if what == 'secondary' else what}")
    elif has_user:
        raise Failure(f"--user has no meaning with auth={mode}", fix="leave it out", code=Exit.USAGE)
    else:
        rows = _run(conn, "authorize_node", f"{key}:{what}")
    return rows[0] if rows else (0, 0)


def _run(conn: octodb.Connection, name: str, argument: str) -> list[Any]:
    quoted = argument.replace("'", "''")
    return list(conn.execute(f"PRAGMA {name}='{quoted}'"))
