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
@click.option("--oidc", metavar="ISSUER", help="Users of an OpenID Connect issuer (its URL) sign in with a token.")
@click.option("--oidc-audience", metavar="AUD", help="Whom tokens must be made for; else the client id.")
@click.option("--oidc-client-id", metavar="ID", help="Of devices: they ask the issuer for a token themselves.")
@click.option("--oidc-jwks", metavar="FILE|URL", help="The issuer's keys, where they are not those it publishes.")
@click.option("--no-sign-up", is_flag=True, help="With --accounts or --oidc: only users that are known.")
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
    oidc: str | None,
    oidc_audience: str | None,
    oidc_client_id: str | None,
    oidc_jwks: str | None,
    no_sign_up: bool,
    authorizer: str | None,
    stop_at_eof: bool,
) -> None:
    """Run a primary: URI, or a path with --bind. Ctrl-C or SIGTERM stops it cleanly.

    --accounts, --oidc and --authorizer imply auth=user. The object of --authorizer has methods
    user_signup(data, node_info), user_login(data, node_info) or new_node(node_info), or is a callable
    that takes the connection and registers its own. A service's address is remembered in the file.
    """
    from octocli.issuer import check_issuer
    from octocli.log_lines import log_lines
    from octocli.primary import Primary, load_authorizer, primary_target, read_first_sql, service_address, with_service
    from octocli.stop import StopRequest

    terminal = terminal_of(ctx)
    if [bool(accounts), bool(oidc), bool(authorizer)].count(True) > 1:
        raise click.UsageError("--accounts, --oidc and --authorizer exclude each other", ctx)
    if no_sign_up and not (accounts or oidc):
        raise click.UsageError("--no-sign-up belongs to --accounts and --oidc", ctx)
    if oidc and not (oidc_audience or oidc_client_id):
        raise click.UsageError("--oidc needs --oidc-audience or --oidc-client-id: whom tokens are made for", ctx)
    if not oidc and (oidc_audience or oidc_client_id or oidc_jwks):
        raise click.UsageError("--oidc-audience, --oidc-client-id and --oidc-jwks belong to --oidc", ctx)
    # an authorizer may also decide about nodes
    auth = ("user",) if accounts or oidc else ("user", "node") if authorizer else ()
    target = primary_target(uri, bind=bind, auth=auth)
    if accounts or oidc or authorizer:
        target = with_service(target, service_address(authorizer))
    # Read before the database is made: a misspelt name must not leave a primary that knows no accounts.
    first_sql = None if init is None else read_first_sql(init)
    if oidc is not None:
        check_issuer(oidc, oidc_jwks)
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
        if oidc is not None:
            primary.use_oidc(
                {
                    "issuer": oidc,
                    "audience": oidc_audience,
                    "client_id": oidc_client_id,
                    "jwks": oidc_jwks,
                    "sign_up": not no_sign_up,
                }
            )
        if rules is not None:
            primary.use_authorizer(rules)
        if not accounts and oidc is None and rules is None:
            primary.warn_of_no_authorizer()
        primary.announce()
        stop.wait()
    terminal.say("stopped")
