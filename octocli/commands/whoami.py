"""``octodb whoami``: which user and node this file is, read from the file alone."""

from __future__ import annotations

import click

from octocli.options import common_options, terminal_of, uri_argument

__all__ = ["command"]


@click.command("whoami", short_help="Say which user and node this database belongs to.")
@uri_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
@click.pass_context
def command(ctx: click.Context, uri: str | None, as_json: bool) -> None:
    """Say which user and node this database belongs to. Starts nothing; exit 4 if nobody is signed in."""
    import json

    import octodb
    from octocli.failure import Exit, Failure
    from octocli.status_text import who_text
    from octocli.target import choose_target

    terminal_of(ctx)
    target = choose_target(uri, role="secondary")
    status = octodb.read_status(target.uri)
    names = ("node_id", "user_id", "node_type", "public_key")
    if as_json:
        click.echo(json.dumps({"v": 1, **{name: status.get(name) for name in names}, "path": target.path}))
    if not status.get("node_id"):
        raise Failure(
            f"{target.name}: not signed in",
            why="no primary has given this device a number yet",
            fix="octodb login, or octodb signup",
            code=Exit.AUTHORIZATION,
        )
    if not as_json:
        click.echo(f"{target.name}   {who_text(status)}")
