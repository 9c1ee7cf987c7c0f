"""``octodb demo``: see it work on this machine, without any setup."""

from __future__ import annotations

import click

from octocli.options import common_options, terminal_of

__all__ = ["command"]


@click.command("demo", short_help="See it work: a primary and devices on this machine.")
@click.option("--tour", is_flag=True, help="Run the tour even at a terminal.")
@common_options
@click.pass_context
def command(ctx: click.Context, tour: bool) -> None:
    """See it work: a primary and its devices, on this machine, in a folder that is removed afterwards.

    At a terminal you sign up and get the SQL shell of a device. Without one (or with --tour) the tour runs
    by itself: sign up, a second device, sync both ways, offline writes, a rejected transaction. Exit code
    0 means that every step was checked.
    """
    terminal = terminal_of(ctx)
    if terminal.interactive and not tour:
        from octocli.demo.guided import run_guided

        run_guided(terminal)
    else:
        from octocli.demo.tour import run_tour

        run_tour(terminal)
