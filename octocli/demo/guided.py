"""The demonstration for a person at a terminal: a primary is started, they sign up and get the shell."""

from __future__ import annotations

import contextlib

from octocli.database import become_usable, open_database
from octocli.demo.stage import Stage
from octocli.feed import StatusFeed
from octocli.shell.run import run_shell
from octocli.target import read_target
from octocli.terminal import Terminal

__all__ = ["run_guided"]

TEXT = """\
A primary runs on {address}, with a small music catalogue.
This terminal is a device with a database of its own: {device}
Sign up with any e-mail and password; it stays on this machine and is removed when you leave.
"""

IDEAS = """\
Try:  SELECT * FROM track_list LIMIT 5;
      INSERT INTO playlist (name) VALUES ('Mine');     then .sync
      .tables  .schema playlist  .pending  .rejected  .help
A second device, in another terminal (octodb login as the same user, then octodb connect):
      octodb login '{second}'
      octodb connect '{second}'
"""


def run_guided(terminal: Terminal) -> None:
    """Run it until the person leaves the shell."""
    with Stage() as stage:
        address = stage.start_primary()
        terminal.say(TEXT.format(address=address, device=stage.folder / "phone.db"))
        target = read_target(stage.device_uri("phone"))
        with contextlib.closing(open_database(target)) as conn:
            feed = StatusFeed(conn)
            become_usable(feed, terminal)
            terminal.say(IDEAS.format(second=stage.device_uri("laptop")))
            run_shell(conn, target, terminal, feed=feed)
