"""What ``login`` and ``signup`` share: they differ in the word they send."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from octocli.options import common_options, data_option, terminal_of, timeout_option, uri_argument
from octocli.terminal import Terminal

if TYPE_CHECKING:
    from octocli.signin import Action

__all__ = ["signing_command"]


def signing_command(action: Action, text: str) -> click.Command:
    """The click command for one action."""

    @click.command(action, short_help=text, help=f"{text} Waits until the database is ready.")
    @uri_argument
    @data_option
    @timeout_option
    @common_options
    @click.pass_context
    def command(ctx: click.Context, uri: str | None, data: str | None, timeout: float | None) -> None:
        _run(terminal_of(ctx), action, uri, data, timeout)

    return command


def _run(terminal: Terminal, action: Action, uri: str | None, data: str | None, timeout_s: float | None) -> None:
    from octocli.database import become_usable, open_database, patience
    from octocli.feed import StatusFeed
    from octocli.login_data import read_login_data
    from octocli.progress import is_revoked, revoked
    from octocli.signin import is_signed_in
    from octocli.status_text import who_text
    from octocli.target import choose_device, remember_target

    target = choose_device(uri, why="only devices sign in")
    text = read_login_data(data, warn=terminal.complain)
    with contextlib.closing(open_database(target)) as conn:
        remember_target(target)
        feed = StatusFeed(conn)
        if is_revoked(feed.now()):
            raise revoked()
        before = is_signed_in(feed.now())
        become_usable(feed, terminal, action=action, data=text, patience_s=patience(timeout_s, terminal))
        if before:
            terminal.say("this device was signed in already; nothing was sent")
        click.echo(who_text(feed.now()))
