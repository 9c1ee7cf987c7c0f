"""``octodb login``: log this device in to an account there is."""

from octocli.commands.signing import signing_command

__all__ = ["command"]

command = signing_command("login", "Log this device in.")
