"""A primary run by the command line: its URI, its first SQL, who decides about sign-ins.

The library binds, listens and syncs; this only sets it up.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from octocli.database import open_database
from octocli.failure import Exit, Failure, failure_of
from octocli.sqltext import Splitter, first_line
from octocli.target import Target, choose_target, path_uri, read_target, with_parameters, without_parameters
from octocli.terminal import Terminal

if TYPE_CHECKING:
    import octodb

__all__ = [
    "Primary",
    "beside_server",
    "device_uri",
    "load_authorizer",
    "primary_target",
    "read_first_sql",
    "service_address",
    "with_service",
]

# The callbacks an authorizer object may have, and their number of arguments (contract.md §4).
CALLBACKS: Final = {"user_signup": 2, "user_login": 2, "new_node": 1}
TRANSACTION_WORDS: Final = frozenset({"begin", "commit", "end", "rollback"})
ANY_HOST: Final = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - compared with, not bound


def primary_target(uri: str | None, *, bind: str | None = None, auth: tuple[str, ...] = ()) -> Target:
    """The target of ``serve``. A path with ``bind`` is enough.

    ``auth``: the modes that its options can serve, the first of them where the URI names none.

    Raises Failure (exit 2) for a device's database or where no address is known.
    """
    if uri is None and bind is None:
        target = choose_target(None, role="primary")
    elif uri is None:
        raise Failure("--bind needs a database", fix="octodb serve PATH --bind ADDRESS", code=Exit.USAGE)
    else:
        target = _named_target(uri, bind)
    if target.role != "primary":
        raise Failure(
            f"{target.path} is a device's database (node=secondary)",
            fix="octodb connect for devices; name another file for a primary",
            code=Exit.USAGE,
        )
    if not target.bind:
        raise _no_address(target)
    return _with_authorization(target, auth) if auth else target


def _with_authorization(target: Target, allowed: tuple[str, ...]) -> Target:
    """The target with an auth mode of ``allowed``. Raises Failure (exit 2) where its URI names another: nobody would be
    asked."""
    import octodb

    auth = octodb.parse_node_uri(target.uri).auth
    if auth is None:
        return read_target(with_parameters(target.uri, auth=allowed[0]))
    if str(auth) not in allowed:
        raise Failure(
            f"the URI says auth={auth}, but {'--accounts or --oidc' if len(allowed) == 1 else '--authorizer'} needs"
            f" auth={' or auth='.join(allowed)}",
            why=f"with auth={auth} nobody is asked who they are",
            fix="leave auth= out of the URI",
            code=Exit.USAGE,
        )
    return target


def _named_target(uri: str, bind: str | None) -> Target:
    if bind is not None:
        if "bind=" in uri:
            raise Failure("two addresses: bind= in the URI and --bind", fix="keep one", code=Exit.USAGE)
        has_role = "node=" in uri
        return read_target(with_parameters(uri, bind=bind, **({} if has_role else {"node": "primary"})))
    target = read_target(uri, role="primary")
    if target.role is None:
        raise _no_address(target)
    return target


def _no_address(target: Target) -> Failure:
    return Failure(
        f"no address to listen on for {target.path}",
        fix=f"octodb serve '{target.path}' --bind tcp://127.0.0.1:1234",
        code=Exit.USAGE,
    )


def beside_server(target: Target) -> Target:
    """How to open a primary's file: without its addresses while another process listens on them.

    What is written there goes into the same log, and the process that serves tells the devices.
    """
    import octodb

    if target.role != "primary" or not target.bind or not os.path.exists(target.path):
        return target
    engine = octodb.read_status(target.uri).get("engine")
    if engine is None or engine.get("pid") == os.getpid():
        return target
    return read_target(without_parameters(target.uri, "bind"))


def service_address(authorizer: str | None) -> str | None:
    """``authorizer`` where it is the address of an authorization service, otherwise None."""
    return authorizer if authorizer is not None and "://" in authorizer else None


def with_service(target: Target, address: str | None) -> Target:
    """The target with the authorization service at ``address``, or without the one that its file remembers: it would
    be asked instead of what the options name. Raises Failure (exit 2) for what is no address."""
    import octodb

    uri = without_parameters(target.uri, "authorizer")
    if address is None:
        return target if uri == target.uri else read_target(uri)
    try:
        octodb.parse_node_uri(with_parameters(uri, authorizer=address))
    except octodb.ConfigError as error:
        fix = "name where the service listens: --authorizer tcp://HOST:PORT"
        raise Failure(str(error), fix=fix, code=Exit.USAGE) from error
    return read_target(with_parameters(uri, authorizer=address))


def open_beside_server(uri: str | None, *, why: str) -> octodb.Connection:
    """A primary's file, without listening: to look after it must not start to serve.

    ``why``: why it must be a primary's. Raises Failure (exit 2) where it is not, exit 3 where there is none.
    """
    target = choose_target(uri, role="primary")
    if target.role != "primary":
        fix = "name the primary's file: primary.db"
        raise Failure(f"{target.path} is no primary's database", why=why, fix=fix, code=Exit.USAGE)
    if not os.path.exists(target.path):
        raise Failure(f"there is no database {target.path}", fix="name the primary's file", code=Exit.CANNOT_OPEN)
    return open_database(beside_server(read_target(without_parameters(target.uri, "bind"))))


class Primary:
    """One primary for the life of the command."""

    def __init__(self, target: Target, terminal: Terminal) -> None:
        self._target = target
        self._terminal = terminal
        self._conn: octodb.Connection | None = None
        self._accounts: object = None

    def open(self) -> None:
        """Bind and start. Raises Failure: exit 2 (URI), 3 (file), 5 (address in use)."""
        self._conn = open_database(self._target)

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    @property
    def conn(self) -> octodb.Connection:
        assert self._conn is not None, "open() comes first"
        return self._conn

    def initialise(self, file: str, text: str) -> None:
        """Run ``text``, the SQL of ``file``, if the database has no tables yet, all of it or nothing.

        Raises Failure (exit 1 with file:line) for an error in the SQL.
        """
        if not self._is_new():
            self._terminal.say(f"{self._target.name} has tables already: {file} was not run")
            return
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            self._run_text(text, file)
            self.conn.execute("COMMIT")
        except BaseException:
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")
            raise

    def use_accounts(self, *, sign_up: bool) -> None:
        import octodb

        self._accounts = octodb.Accounts(self.conn, sign_up=sign_up)

    def use_oidc(self, options: dict[str, Any]) -> None:
        """``options``: of octodb.oidc.OpenIdConnect. Raises Failure (exit 2) for addresses that are not https."""
        from octodb.oidc import OpenIdConnect

        try:
            self._accounts = OpenIdConnect(self.conn, **options)
        except ValueError as error:
            raise Failure("--oidc cannot be used so", why=str(error), code=Exit.USAGE) from None

    def use_authorizer(self, found: Any) -> None:
        """Register what ``load_authorizer`` gave."""
        present = _callbacks(found)
        if isinstance(found, type) or not present:
            self._accounts = found(self.conn)
            return
        for method, arguments in present.items():
            self.conn.register_function(method, arguments, getattr(found, method))

    def warn_of_no_authorizer(self) -> None:
        """Say so where devices are asked who they are and nothing will answer them: of accounts and callbacks the file
        remembers nothing but auth=."""
        status = self.conn.sync_status
        mode = (status.get("auth") or {}).get("mode")
        if mode in {"user", "node"} and status.get("authorizer") is None:
            answers = "--accounts, --oidc or --authorizer" if mode == "user" else "--authorizer"
            self._terminal.complain(
                f"warning: {self._target.name} has auth={mode}, and nothing here answers new devices: "
                f"serve it with {answers}, or authorize each with PRAGMA authorize_{mode}"
            )

    def announce(self) -> None:
        """One line for each address on stdout, for programs; how to connect a device on stderr."""
        status = self.conn.sync_status
        addresses = list(status.get("bind") or [])
        for url in addresses:
            click.echo(f"octodb: primary {self._target.path} listening on {url}")
        sys.stdout.flush()
        if addresses:
            self._terminal.say(f"connect a device: octodb connect '{device_uri(addresses, status.get('certificate'))}'")

    def _is_new(self) -> bool:
        row = self.conn.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "AND name NOT LIKE '\\_octodb%' ESCAPE '\\' AND tbl_name NOT LIKE 'private\\_%' ESCAPE '\\'"
        ).fetchone()
        return not row[0]

    def _run_text(self, text: str, source: str) -> None:
        import octodb

        splitter = Splitter(octodb.complete_statement)
        for piece in [*splitter.feed(text), *splitter.finish()]:
            # Dumps bring BEGIN and COMMIT of their own; the whole file is one transaction already.
            if piece.text.split(None, 1)[0].rstrip(";").lower() in TRANSACTION_WORDS:
                continue
            try:
                self.conn.execute(piece.text)
            except octodb.Error as error:
                failure = failure_of(error)
                failure.what = f"{source}:{piece.line}: {failure.what}"
                failure.why = f"in: {first_line(piece.text)}; nothing of the file was kept"
                raise failure from error


def device_uri(addresses: list[str], certificate: str | None = None) -> str:
    """A URI with which a device of this machine or network connects to a primary at ``addresses``.

    ``certificate``: the fingerprint of the primary's, to be pinned. Plain addresses beside tls:// ones are left out:
    whoever can block those would choose how a device connects.
    """
    secure = [address for address in addresses if address.startswith("tls://")]
    addresses = secure or addresses
    uri = f"{path_uri('app.db')}?node=secondary&connect={','.join(map(_reachable, addresses))}"
    return f"{uri}&tls_pin={certificate}" if certificate else uri


def _reachable(url: str) -> str:
    scheme, _, place = url.partition("://")
    host, _, port = place.rpartition(":")
    return f"{scheme}://{socket.gethostname() if host in ANY_HOST else host}:{port}"


def read_first_sql(file: str) -> str:
    """The text of ``--init``. Raises Failure (exit 2) for a file that cannot be read, before any database is made."""
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        fix = "name a file of SQL statements"
        raise Failure(f"cannot read {file}", why=reason, fix=fix, code=Exit.USAGE) from None


def load_authorizer(name: str) -> Any:
    """The object ``module:object`` of ``--authorizer``. Raises Failure (exit 2) where it is none."""
    found = _import_object(name)
    if not callable(found) and not _callbacks(found):
        raise Failure(
            f"{name} is no authorizer",
            why=f"it has none of {', '.join(CALLBACKS)}",
            fix="define user_signup(data, node_info) and user_login(data, node_info)",
            code=Exit.USAGE,
        )
    return found


def _callbacks(found: Any) -> dict[str, int]:
    return {method: n for method, n in CALLBACKS.items() if callable(getattr(found, method, None))}


def _import_object(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        fix = "name a module and an object in it: --authorizer myapp.auth:rules"
        raise Failure(f"--authorizer {name} is not MODULE:OBJECT", fix=fix, code=Exit.USAGE)
    sys.path.insert(0, os.getcwd())  # as `python -m` does: the app's module lies beside the database
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # the module is somebody's code: it may raise anything
        raise Failure(
            f"cannot load --authorizer {name}",
            why=f"{type(error).__name__}: {error}",
            fix="run it where the module can be imported; --debug shows where it failed",
            code=Exit.USAGE,
        ) from error
    return found
