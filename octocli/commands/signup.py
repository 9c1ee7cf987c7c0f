"""``octodb signup``: make an account and sign this device in."""

from octocli.commands.signing import signing_command

__all__ = ["command"]

command = signing_command("signup", "Make an account and sign this device in.")
