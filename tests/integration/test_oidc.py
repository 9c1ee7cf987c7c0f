"""Signing in with tokens of an OpenID Connect issuer, and how they are got at a terminal."""

import contextlib
import json
import re
import socket
import sys
import threading
from concurrent.futures import Future
from unittest import mock

import jwt
import pexpect
import pytest

from octocli.failure import Failure
from octocli.issuer import issuer_of
from octodb.oidc import Issuer, IssuerError, OpenIdConnect, fetch
from octodb.oidc.fetch import is_safe_url
from tests.integration.conftest import wait_for
from tests.integration.local_issuer import AUDIENCE, LocalIssuer

SCHEMA = "CREATE TABLE note (id INTEGER PRIMARY KEY, text, row_owner)"


@pytest.fixture
def issuer():
    issuer = LocalIssuer()
    yield issuer
    issuer.close()


@pytest.fixture
def primary(world):
    return world.primary(SCHEMA, auth="user")


@pytest.fixture
def make(primary, issuer):
    made = []

    def make(**options):
        made.append(OpenIdConnect(primary, options.pop("url", issuer.url), **{"audience": AUDIENCE} | options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(primary, data):
    """What is decided, as (number, reason)."""
    answer = primary._node.authorizer.get("user_login")(data, "{}")
    answer = answer.result(15) if isinstance(answer, Future) else answer
    return answer if isinstance(answer, tuple) else (answer, "")


def test_a_subject_is_a_user_for_ever(world, primary, issuer, make):
    make()
    phone, laptop, other = (world.device(name, ready=False) for name in ("phone", "laptop", "other"))
    phone.execute(f"PRAGMA user_login='{issuer.token()}'")
    laptop.execute("PRAGMA user_signup='{}'".format(json.dumps({"token": issuer.token()})))
    other.execute(f"PRAGMA user_login='{issuer.token('bob')}'")
    for device in (phone, laptop, other):
        assert device.wait_ready(15), device.sync_status
    users = [device.sync_status["user_id"] for device in (phone, laptop, other)]
    assert users[0] == users[1] != users[2]
    kept = primary.execute("SELECT subject, user_id FROM private_oidc_subjects ORDER BY user_id").fetchall()
    assert kept == [("ada", users[0]), ("bob", users[2])]


def test_the_form_names_the_issuer_and_what_to_ask_it_for(primary, issuer, make):
    make(client_id="the-client")
    wait_for(lambda: len(primary.sync_status["auth"]["fields"]) == 1)
    (field,) = primary.sync_status["auth"]["fields"]
    assert field["oidc"] == {"issuer": issuer.url, "client_id": "the-client", "scope": "openid"}
    assert field["secret"] is True


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1_000_000_000}, "has expired"),
        ({"nbf": 32_000_000_000}, "not valid yet"),
        ({"aud": "somebody-else"}, "another audience"),
        ({"iss": "https://issuer.example"}, "another issuer's"),
        ({"sub": None}, "no claim sub"),
        ({"exp": None}, "no claim exp"),
        ({"aud": [AUDIENCE, "other"], "azp": "other"}, "another client"),
        ({"aud": [AUDIENCE, "other"], "azp": [AUDIENCE]}, "another client"),
        ({"sub": "x" * 300}, "1 to 255 characters"),
    ],
)
def test_a_token_that_is_not_for_this_is_refused(primary, issuer, make, claims, why):
    make()
    number, reason = ask(primary, issuer.token(**claims))
    assert number == -1
    assert why in reason


def test_a_token_that_nobody_signed_is_refused(primary, issuer, make):
    make()
    assert ask(primary, issuer.token()) == (2, "")
    forged = LocalIssuer()
    try:
        tokens = [issuer.unsigned_token(), issuer.confused_token(), forged.token(iss=issuer.url), issuer.token()[:-8]]
        for token in tokens:
            number, reason = ask(primary, token)
            assert number == -1, reason
            assert token not in reason
    finally:
        forged.close()
    for text in ("", "no token", "a.b.c", "{", '{"token": 7}', "x" * 50_000, '{"token": "' + "[" * 20_000):
        assert ask(primary, text)[0] == -1
    assert primary.execute("SELECT subject FROM private_oidc_subjects").fetchall() == [("ada",)]


def test_keys_are_rotated(primary, issuer, make, monkeypatch):
    now = [0.0]
    make(clock=lambda: now[0])
    assert ask(primary, issuer.token())[0] == 2
    issuer.keys.clear()
    issuer.add_key("second", "RSA")
    number, reason = ask(primary, issuer.token(kid="second"))
    assert (number, "does not publish" in reason) == (-1, True), "not looked for again at once: tokens name any key"
    now[0] += 31
    assert ask(primary, issuer.token(kid="second"))[0] == 2
    fetched = sum(path == "/keys" for path, _ in issuer.requests)
    for _ in range(20):
        assert ask(primary, issuer.token(kid="second").replace("InNlY29uZCI", "InRoaXJkIiA"))[0] == -1
    assert sum(path == "/keys" for path, _ in issuer.requests) == fetched


def test_what_an_issuer_says_of_itself_is_asked_again(issuer):
    now = [0.0]
    one = Issuer(issuer.url, clock=lambda: now[0])
    assert one.metadata() is one.metadata()
    issuer.offers_device_flow = False
    now[0] += 3601
    assert "device_authorization_endpoint" not in one.metadata()
    issuer.down = True
    now[0] += 3601
    assert one.metadata()["issuer"] == issuer.url, "what is known counts while it is down"
    asked = [path for path, _ in issuer.requests if "openid" in path]
    assert len(asked) == 3


def test_an_issuer_that_is_down_refuses_nobody_for_good(primary, issuer, make):
    now = [0.0]
    make(clock=lambda: now[0])
    issuer.down = True
    number, reason = ask(primary, issuer.token())
    assert (number, "try again later" in reason) == (-3, True)
    issuer.down = False
    assert ask(primary, issuer.token())[0] == -3, "not asked again at once"
    now[0] += 11
    assert ask(primary, issuer.token())[0] == 2


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
    ],
    ids=["headers", "body", "chunk", "chunk of an error"],
)
def test_an_issuer_that_drips_is_given_up(primary, make, beginning, drop):
    with socket.create_server(("127.0.0.1", 0)) as dripping, mock.patch.object(fetch, "_WHOLE_S_MAX", 0.3):
        make(url=f"http://127.0.0.1:{dripping.getsockname()[1]}")
        ended = threading.Event()

        def drip():
            connection, _ = dripping.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(beginning)
                while not ended.wait(0.05):
                    connection.sendall(drop)

        thread = threading.Thread(target=drip)
        thread.start()
        token = jwt.encode({}, "x" * 32, algorithm="HS256")
        assert ask(primary, token)[0] == -1, "nobody is asked about what cannot be right"
        number, reason = ask(primary, LocalIssuer.token_like("ES256"))
        ended.set()
        thread.join()
    assert (number, "try again later" in reason) == (-3, True)


def test_a_failure_that_took_long_counts_from_its_end(issuer):
    now = [0.0]
    asked = []

    def slow():
        asked.append(now[0])
        now[0] += 13
        raise IssuerError("no answer in time")

    one = Issuer(issuer.url, clock=lambda: now[0])
    for _ in range(5):
        with pytest.raises(IssuerError):
            one._trying("keys", slow)
    assert asked == [0.0]


def test_keys_of_a_file_need_no_issuer(primary, issuer, make, tmp_path):
    (tmp_path / "keys.json").write_text(json.dumps(issuer.jwks()))
    issuer.down = True
    make(jwks=str(tmp_path / "keys.json"))
    assert ask(primary, issuer.token())[0] == 2


def test_where_signing_up_is_closed_only_known_subjects_come_in(primary, issuer, make):
    users = make(sign_up=False)
    assert ask(primary, issuer.token()) == (-1, "signing up is closed here; ask to be let in")
    users.add("ada", 41)
    assert ask(primary, issuer.token()) == (41, "")


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://issuer.example", True),
        ("http://127.0.0.1:80/x", True),
        ("http://issuer.example", False),
        ("http://127.0.0.1.example", False),
        ("https://user@issuer.example", False),
        ("ftp://issuer.example", False),
        ("https://", False),
        (None, False),
    ],
)
def test_addresses_that_keys_may_come_from(url, safe):
    assert is_safe_url(url) is safe


@pytest.mark.parametrize(
    ("url", "issuer", "allowed"),
    [
        ("https://keys.example/x", "https://issuer.example", True),
        ("http://127.0.0.1:8080/admin", "https://issuer.example", False),
        ("http://127.0.0.1:8080/keys", "http://127.0.0.1:8080", True),
        ("http://keys.example", "http://127.0.0.1:8080", False),
    ],
)
def test_an_issuer_elsewhere_sends_nobody_to_his_own_machine(url, issuer, allowed):
    assert fetch.is_for(url, issuer) is allowed


@pytest.mark.parametrize("issuer", ["https://real.example\x1b[2K", "http://issuer.example", 7, None])
def test_what_a_primary_calls_an_issuer_is_shown_only_if_it_is_an_address(issuer):
    with pytest.raises(Failure, match="cannot be trusted"):
        issuer_of({"auth": {"fields": [{"name": "token", "oidc": {"issuer": issuer}}]}})


def test_an_issuer_without_https_is_an_error(make):
    with pytest.raises(ValueError, match="https"):
        make(url="http://issuer.example")


# --- at a terminal -------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(world, issuer, programs, tmp_path):
    """``octodb login`` at a pseudo terminal, at a primary that ``octodb serve --oidc`` runs."""
    spawned = []
    arguments = ["serve", "primary.db", "--bind", "tcp://127.0.0.1:0", "--oidc", issuer.url]
    arguments += ["--oidc-audience", AUDIENCE, "--oidc-client-id", "the-client"]
    text = f"import sys; from octocli.main import main; sys.argv[1:] = {arguments!r}; main()"
    server = programs.start(text)
    address = re.search(r"tcp://\S+", server.stdout.readline()).group()

    def login(*more):
        uri = f"file:device{len(spawned)}.db?node=secondary&connect={address}"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)}
        spawned.append(
            pexpect.spawn(
                sys.executable,
                ["-m", "octocli", "login", uri, *more],
                cwd=str(tmp_path),
                env={**environment, "PYTHONPATH": ":".join(filter(None, sys.path))},
                encoding="utf-8",
                timeout=20,
            )
        )
        return spawned[-1]

    yield login
    for one in spawned:
        one.close(force=True)


def test_a_person_approves_on_another_screen(terminal, issuer):
    issuer.flow = {"verification_uri_complete": issuer.url + "/go?code=WDJB-MJHT"}
    issuer.answers = [
        {"error": "authorization_pending"},
        {"error": "authorization_pending"},
        {"id_token": issuer.token()},
    ]
    screen = terminal()
    screen.expect(r"to sign in at 127\.0\.0\.1:\d+")
    screen.expect("WDJB-MJHT")
    screen.expect(r"user \d+ · secondary")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    forms = [form for path, form in issuer.requests if path == "/token"]
    assert {form["device_code"] for form in forms} == {"the-secret-code"}
    assert len(forms) == 3


@pytest.mark.parametrize(("error", "told"), [("access_denied", "it was refused"), ("expired_token", "has expired")])
def test_nobody_approves(terminal, issuer, error, told):
    issuer.answers = [{"error": "authorization_pending"}, {"error": error}]
    screen = terminal()
    screen.expect(told)
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 4


def test_ctrl_c_ends_the_waiting(terminal, issuer):
    issuer.answers = [{"error": "authorization_pending"}]
    screen = terminal()
    screen.expect("WDJB-MJHT")
    wait_for(lambda: any(path == "/token" for path, _ in issuer.requests))
    screen.sendintr()
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130


def test_where_the_issuer_has_no_such_flow_a_token_is_asked_for(terminal, issuer):
    issuer.offers_device_flow = False
    screen = terminal()
    screen.expect("ID token of http")
    token = issuer.token()
    screen.sendline(token)
    screen.expect(r"user \d+ · secondary")
    screen.expect(pexpect.EOF)
    assert token not in (screen.before or "")
    screen.close()
    assert screen.exitstatus == 0


def test_a_token_as_data_needs_no_terminal(terminal, issuer, tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"token": issuer.token()}))
    (tmp_path / "data.json").chmod(0o600)
    screen = terminal("--data", "@data.json")
    screen.expect(r"user \d+ · secondary")


@pytest.mark.parametrize(
    "options",
    [
        ["--oidc", "https://issuer.example"],
        ["--oidc-audience", "x"],
        ["--oidc", "https://issuer.example", "--oidc-audience", "x", "--accounts"],
        ["--oidc", "http://issuer.example", "--oidc-audience", "x"],
        ["--oidc", "https://issuer.example", "--oidc-audience", "x", "--oidc-jwks", "absent.json"],
    ],
)
def test_options_that_make_no_sense_are_usage_errors(tmp_path, monkeypatch, capsys, options):
    from octocli.main import run

    monkeypatch.chdir(tmp_path)
    assert run(["serve", "primary.db", "--bind", "tcp://127.0.0.1:0", *options]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir()), "a file keeps its auth mode, and nobody would answer"
