"""``octodb encrypt``: encrypt a database that is there, give it another key, or take the encryption off."""

from __future__ import annotations

import click

from octocli.options import common_options, terminal_of

__all__ = ["command"]


@click.command("encrypt", short_help="Encrypt a database, change its key, or decrypt it.")
@click.argument("database", metavar="DATABASE")
@click.argument("uri", metavar="URI")
@common_options
@click.pass_context
def command(ctx: click.Context, database: str, uri: str) -> None:
    """Encrypt DATABASE (a path, or its URI as it is now) as URI says, which names the same file.

    \b
      octodb encrypt app.db 'file:app.db?cipher=chacha20&key_file=app.key'
      octodb encrypt 'file:app.db?cipher=chacha20&key_file=old' 'file:app.db?cipher=chacha20&key_file=new'
      octodb encrypt 'file:app.db?cipher=chacha20&key_file=app.key' file:app.db

    Nobody may have the database open meanwhile. The file as it was is kept beside it: delete it afterwards.
    """
    import octodb
    from octocli.file_key import with_asked_key
    from octocli.target import database_of

    terminal = terminal_of(ctx)
    kept = octodb.encrypt(database_of(database), with_asked_key(uri))
    terminal.say(f"done; the file as it was is {kept}: delete it when you have opened the new one, and its backups")
