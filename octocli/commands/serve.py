"""``octodb serve``: run a primary until it is told to stop."""

from __future__ import annotations

import contextlib

import click

from octocli.options import common_options, terminal_of, uri_argument

__all__ = ["command"]


@click.command("serve", short_help="Run a primary.")
@uri_argument
@click.option("--bind", metavar="ADDRESS", help="Where to listen: tls:// or tcp://HOST:PORT (0: a free port).")
@click.option("--init", metavar="FILE.sql", help="Run this SQL, in one transaction, if the database is new.")
@click.option("--accounts", is_flag=True, help="Built-in accounts: e-mail and password.")
@click.option("--no-sign-up", is_flag=True, help="With --accounts: nobody can make an account.")
@click.option(
    "--authorizer",
    metavar="MODULE:OBJECT|ADDRESS",
    help="Python code, or a service (tcp://HOST:PORT), that decides who may connect.",
)
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="Stop when standard input ends.")
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    uri: str | None,
    bind: str | None,
    init: str | None,
    accounts: bool,
    no_sign_up: bool,
    authorizer: str | None,
    stop_at_eof: bool,
) -> None:
    """Run a primary: URI, or a path with --bind. Ctrl-C or SIGTERM stops it cleanly.

    --accounts and --authorizer imply auth=user. The object of --authorizer has methods
    user_signup(data, node_info), user_login(data, node_info) or new_node(node_info), or is a callable
    that takes the connection and registers its own. A service's address is remembered in the file.
    """
    from octocli.log_lines import log_lines
    from octocli.primary import Primary, load_authorizer, primary_target, read_first_sql, service_address, with_service
    from octocli.stop import StopRequest

    terminal = terminal_of(ctx)
    if accounts and authorizer:
        raise click.UsageError("--accounts and --authorizer exclude each other", ctx)
    if no_sign_up and not accounts:
        raise click.UsageError("--no-sign-up belongs to --accounts", ctx)
    # an authorizer may also decide about nodes
    auth = ("user",) if accounts else ("user", "node") if authorizer else ()
    target = primary_target(uri, bind=bind, auth=auth)
    if accounts or authorizer:
        target = with_service(target, service_address(authorizer))
    # Read before the database is made: a misspelt name must not leave a primary that knows no accounts.
    first_sql = None if init is None else read_first_sql(init)
    rules = None if authorizer is None or service_address(authorizer) else load_authorizer(authorizer)
    primary = Primary(target, terminal)
    with StopRequest() as stop, contextlib.closing(primary), log_lines(terminal):
        if stop_at_eof:
            stop.follow_stdin()
        primary.open()
        if init is not None and first_sql is not None:
            primary.initialise(init, first_sql)
        if accounts:
            primary.use_accounts(sign_up=not no_sign_up)
        if rules is not None:
            primary.use_authorizer(rules)
        if not accounts and rules is None:
            primary.warn_of_no_authorizer()
        primary.announce()
        stop.wait()
    terminal.say("stopped")
