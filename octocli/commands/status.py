"""``octodb status``: one look, a live dashboard, or a wait for scripts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from octocli.options import common_options, terminal_of, uri_argument

if TYPE_CHECKING:
    from octocli.feed import Status
    from octocli.target import Target
    from octocli.terminal import Terminal

__all__ = ["command"]


@click.command("status", short_help="What a node is doing: one look, --watch, or --until for scripts.")
@uri_argument
@click.option("--watch", is_flag=True, help="Live dashboard; without a terminal one line for each change.")
@click.option("--json", "as_json", is_flag=True, help='JSON lines, each with "v": 1.')
@click.option("--interval", type=click.FloatRange(min=0.05), default=0.25, metavar="S", help="Between looks.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N looks.")
@click.option("--until", type=click.Choice(["ready", "synced", "queue-empty"]), help="Wait for this, then exit 0.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="With --until: exit 5 after S seconds.")
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    uri: str | None,
    watch: bool,
    as_json: bool,
    interval: float,
    count: int | None,
    until: str | None,
    timeout: float | None,
) -> None:
    """Show what a node is doing.

    One look reads what the running process published last and starts nothing. --until starts the node
    if no process runs it. --watch starts a device, never a primary.
    """
    from octocli.target import choose_target

    terminal = terminal_of(ctx)
    if timeout is not None and until is None:
        raise click.UsageError("--timeout belongs to --until", ctx)
    if until is not None and watch:
        raise click.UsageError("--until and --watch exclude each other", ctx)
    target = choose_target(uri, role="secondary")
    if until is not None:
        _print(_await(target, terminal, until, timeout), target, terminal, as_json)
    elif watch:
        _watch(target, terminal, as_json, interval, count)
    else:
        import octodb

        _print(dict(octodb.read_status(target.uri)), target, terminal, as_json)


def _print(status: Status, target: Target, terminal: Terminal, as_json: bool) -> None:
    from octocli.dashboard.lines import json_line
    from octocli.status_text import status_lines
    from octocli.terminal import to_ascii

    lines = [json_line(status)] if as_json else status_lines(status, target.name, terminal)
    text = "\n".join(lines)
    click.echo(text if terminal.unicode or as_json else to_ascii(text))


def _watch(target: Target, terminal: Terminal, as_json: bool, interval_s: float, count: int | None) -> None:
    import sys

    from octocli.dashboard.source import StatusSource

    source = StatusSource(target)
    with contextlib.closing(source):
        source.open()
        if terminal.interactive and not as_json and not terminal.dumb:
            from octocli.dashboard.app import Dashboard

            Dashboard(source, target, terminal, interval_s, count).run()
            return
        from octocli.dashboard.lines import watch_lines

        watch_lines(source, target.name, terminal, sys.stdout, as_json=as_json, interval_s=interval_s, count=count)


def _await(target: Target, terminal: Terminal, until: str, timeout_s: float | None) -> Status:
    """Run the node until the condition holds. Raises Failure: exit 5 after the timeout, 4 if it cannot."""
    import time

    from octocli.database import open_database
    from octocli.failure import Exit, Failure
    from octocli.feed import StatusFeed, error_text
    from octocli.progress import in_sync, sign_in_needed
    from octocli.status_text import state_text

    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s

    def done(status: Status) -> bool:
        if until == "queue-empty":
            return not (status.get("transactions") or {}).get("pending")
        if sign_in_needed(status):
            raise Failure(
                f"never {until}: this device is not signed in",
                fix="octodb login, or octodb signup",
                code=Exit.AUTHORIZATION,
            )
        return bool(status.get("db_is_ready")) if until == "ready" else in_sync(status)

    def expired(status: Status) -> bool:
        return deadline_s is not None and time.monotonic() >= deadline_s and not done(status)

    with contextlib.closing(open_database(target)) as conn:
        feed = StatusFeed(conn)
        status = feed.wait(lambda look: done(look) or expired(look), patience_s=None)
    if status is None or not done(status):
        now = status or {}
        raise Failure(
            f"not {until} after {timeout_s:g} s",
            why=error_text(now) or f"state: {state_text(now)}",
            fix=f"octodb status --watch {target.path}",
            code=Exit.NETWORK,
        )
    terminal.say(until)
    return status
