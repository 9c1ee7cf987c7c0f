"""``octodb doctor``: what stands between a node and its primaries, a line for each step."""

from __future__ import annotations

import json

import click

from octocli.options import common_options, terminal_of, uri_argument

__all__ = ["command"]


@click.command("doctor", short_help="Look for what is wrong: URI, file, DNS, TCP, TLS, protocol, authorization.")
@uri_argument
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@common_options
@click.pass_context
def command(ctx: click.Context, uri: str | None, as_json: bool) -> None:
    """Look at a node step by step: URI, file, which process runs it; each primary's name, port, TLS and protocol.

    Nothing is changed and no engine is started. Exit 0 when every line is ok, 1 when one is not.
    """
    import octodb
    from octocli.failure import Exit
    from octocli.file_key import with_asked_key
    from octocli.target import named_text
    from octocli.terminal import to_ascii

    terminal = terminal_of(ctx)
    failed = False
    for finding in octodb.diagnose(with_asked_key(named_text(uri))):
        failed = failed or finding.ok is False
        if as_json:
            values = {"step": finding.step, "ok": finding.ok, "text": finding.text, "fix": finding.fix}
            click.echo(json.dumps({"v": 1, **values}))
            continue
        sign = {True: "ok", False: "FAIL", None: "-"}[finding.ok]
        lines = [f"{sign:<5} {finding.step:<14} {finding.text}"]
        lines += [f"{'':<20} fix: {finding.fix}"] if finding.ok is False and finding.fix else []
        text = "\n".join(lines)
        click.echo(text if terminal.unicode else to_ascii(text))
    if failed:
        ctx.exit(Exit.ERROR)
