"""``octodb completion``: the file that teaches a shell to complete octodb's commands and options."""

from __future__ import annotations

import click

from octocli.completion import SHELLS, completion_script

__all__ = ["command"]


@click.command("completion", hidden=True)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion file for SHELL (completions/ holds them)."""
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    click.echo(completion_script(shell, group), nl=False)
