"""The built-in accounts: what is asked of a password, what an unknown e-mail costs, and what many attempts meet."""

import io
import json
import sqlite3
import threading
import traceback
from concurrent.futures import Future

import pytest

import octodb
from octocli.main import run
from octodb.accounts import normalised_email, normalised_password
from octodb.attempts import AttemptLimit
from octodb.sign_in_work import SignInWork
from tests.integration.conftest import wait_for

PASSWORD = "correct horse"


class CountingHasher:
    """argon2's place: counts the work, which is what an answer's time is made of."""

    def __init__(self, hasher):
        self.hasher = hasher
        self.calls = []

    def hash(self, password):
        self.calls.append("hash")
        return self.hasher.hash(password)

    def verify(self, digest, password):
        self.calls.append("verify")
        return self.hasher.verify(digest, password)

    def check_needs_rehash(self, digest):
        return self.hasher.check_needs_rehash(digest)


@pytest.fixture
def primary(world):
    return world.primary(auth="user")


@pytest.fixture
def make(primary):
    made = []

    def make(**options):
        made.append(octodb.Accounts(primary, **options))
        return made[-1]

    yield make
    for accounts in made:
        accounts.close()


def ask(primary, action, **fields):
    """What the callback decides, as (number, reason)."""
    answer = primary._node.authorizer.get(f"user_{action}")(json.dumps(fields), "{}")
    answer = answer.result(15) if isinstance(answer, Future) else answer
    return answer if isinstance(answer, tuple) else (answer, "")


def test_an_unknown_email_costs_and_says_the_same_as_a_wrong_password(primary, make):
    accounts = make()
    accounts.add("ada@example.org", PASSWORD)
    accounts._hasher = hasher = CountingHasher(accounts._hasher)
    wrong = ask(primary, "login", email="ada@example.org", password="wrong horse")
    work = hasher.calls.copy()
    assert work == ["verify"]
    for fields in (
        {"email": "nobody@example.org", "password": PASSWORD},
        {"email": "no e-mail", "password": PASSWORD},
        {"email": "ada@example.org", "password": "x" * 50_000},
        {"email": "ada@example.org", "password": "\ud800" * 9},
        {"email": ["ada@example.org"], "password": None},
        {},
    ):
        hasher.calls.clear()
        assert ask(primary, "login", **fields) == wrong, fields
        assert hasher.calls == work, fields
    assert wrong == (-1, "wrong e-mail address or password")


def test_a_sign_up_costs_one_hash_whether_the_email_has_an_account_or_not(primary, make):
    accounts = make()
    accounts._hasher = hasher = CountingHasher(accounts._hasher)
    number, _ = ask(primary, "signup", email="ada@example.org", password=PASSWORD)
    assert number > 0
    assert hasher.calls == ["hash"]
    hasher.calls.clear()
    refused = ask(primary, "signup", email="ADA@example.org ", password="another horse")
    assert refused == (-1, "this e-mail address has an account already; log in instead")
    assert hasher.calls == ["verify"]
    # the answer to the first one was lost
    assert ask(primary, "signup", email="ada@example.org", password=PASSWORD) == (number, "")


@pytest.mark.parametrize(
    ("email", "password", "why"),
    [
        ("ada", PASSWORD, "no e-mail address"),
        ("a@b" + "c" * 300, PASSWORD, "no e-mail address"),
        ("a\x07@example.org", PASSWORD, "no e-mail address"),
        ("ada@example.org", "short", "at least 8"),
        ("ada@example.org", "x" * 1001, "at most 1000"),
        ("ada@example.org", "line\nbreak", "control characters"),
        ("ada@example.org", "half \ud83d a letter", "control characters"),
    ],
)
def test_what_no_account_is_made_of(primary, make, email, password, why):
    accounts = make()
    number, reason = ask(primary, "signup", email=email, password=password)
    assert number == -1
    assert why in reason
    with pytest.raises(ValueError, match=why) as caught:
        accounts.add(email, password)
    assert password not in "".join(traceback.format_exception(caught.value))
    assert accounts.accounts() == []


def test_the_same_letters_written_otherwise_are_the_same(primary, make):
    accounts = make()
    user_id = accounts.add(" José@Example.org", "motörhead\u00a0rules")
    assert ask(primary, "login", email="jose\u0301@EXAMPLE.ORG", password="moto\u0308rhead rules") == (user_id, "")
    assert ask(primary, "login", email="josé@example.org", password="Motörhead rules")[0] == -1
    assert accounts.accounts()[0]["email"] == "josé@example.org"
    assert normalised_email("A@B") == "a@b"
    assert normalised_password("ⅷ e\u0301") == "ⅷ é"  # NFC, not NFKC: what differs for a reader differs


def test_many_attempts_on_one_account_have_to_wait_and_recover(primary, make):
    accounts = make()
    user_id = accounts.add("ada@example.org", PASSWORD)
    now = [1000.0]
    accounts._clock = lambda: now[0]
    accounts._hasher = hasher = CountingHasher(accounts._hasher)
    for email in ("ada@example.org", "nobody@example.org"):
        hasher.calls.clear()
        answers = [ask(primary, "login", email=email, password=f"guess {n}") for n in range(22)]
        assert answers[:20] == [(-1, "wrong e-mail address or password")] * 20
        assert answers[20:] == [(-3, "too many attempts for this account; try again in 60 s")] * 2
        assert len(hasher.calls) == 20  # and no work for those that have to wait
    # the owner has to wait too, and not for ever
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD)[0] == -3
    now[0] += 61
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD) == (user_id, "")
    # a success is no guess
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD) == (user_id, "")


def test_the_limit_forgets_accounts_that_have_recovered_and_no_others():
    limit = AttemptLimit()
    for _ in range(20):
        assert limit.take("ada", 0.0) == 0
    assert limit.take("ada", 0.0) == 60
    for number in range(10_000):
        limit.take(str(number), 1.0)
    assert limit.take("ada", 1.0) == 59
    limit.take("another", 20 * 60.0)
    assert list(limit._left) == ["another"]


def test_trying_many_other_accounts_gives_no_attempts_back():
    """However many an attacker can hash in the time."""
    limit = AttemptLimit()
    guesses = 0
    for second in range(3600):
        while not limit.take("victim", second):
            guesses += 1
        for other in range(33):
            limit.take(f"{second}.{other}", second)
    assert guesses <= 20 + 60


def test_a_flood_of_sign_ins_is_sent_away_and_the_rest_is_answered():
    work, go = SignInWork(), threading.Event()
    answers = [work.run(go.wait, 15) for _ in range(50)]
    waiting = [answer for answer in answers if isinstance(answer, Future)]
    assert len(waiting) == 42
    assert answers[42:] == [(-3, "too many sign-ins just now; try again in 5 s")] * 8
    go.set()
    assert all(answer.result(15) for answer in waiting)
    last = wait_for(lambda: isinstance(again := work.run(int), Future) and again)
    assert last.result(15) == 0
    work.close()
    assert work.run(int) == (-3, "this primary is shutting down; try again later")


def test_a_hash_with_older_parameters_is_made_anew_at_the_next_login(primary, make):
    import argon2

    accounts = make()
    user_id = accounts.add("ada@example.org", PASSWORD)
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    primary.execute("UPDATE private_accounts SET password_hash = ?", (old,))
    primary.commit()
    assert ask(primary, "login", email="ada@example.org", password="wrong horse")[0] == -1
    kept = "SELECT password_hash FROM private_accounts"
    assert primary.execute(kept).fetchone() == (old,)
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD) == (user_id, "")
    (new,) = primary.execute(kept).fetchone()
    assert new != old
    assert not argon2.PasswordHasher().check_needs_rehash(new)
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD) == (user_id, "")


def test_looking_after_accounts(primary, make):
    accounts = make(sign_up=False)
    ada, ben = accounts.add("ada@example.org", PASSWORD), accounts.add("ben@example.org", PASSWORD)
    with pytest.raises(octodb.IntegrityError, match="has an account already"):
        accounts.add("Ada@example.org", "another horse")
    accounts.set_password("ADA@example.org", "another horse")
    assert ask(primary, "login", email="ada@example.org", password=PASSWORD)[0] == -1
    assert ask(primary, "login", email="ada@example.org", password="another horse") == (ada, "")
    assert [(one["user_id"], one["email"]) for one in accounts.accounts()] == [
        (ada, "ada@example.org"),
        (ben, "ben@example.org"),
    ]
    assert accounts.remove("ben@example.org") == ben
    assert ask(primary, "login", email="ben@example.org", password=PASSWORD)[0] == -1
    assert accounts.add("ben@example.org", PASSWORD) > ben  # another user
    for action in (lambda: accounts.remove("x@y"), lambda: accounts.set_password("x@y", PASSWORD)):
        with pytest.raises(octodb.ProgrammingError, match="has no account"):
            action()
    assert ask(primary, "signup", email="cy@example.org", password=PASSWORD)[0] == -1


def test_a_device_hears_what_a_future_gives(world):
    primary = world.primary(auth="user")
    answer = Future()
    primary.register_function("user_login", 2, lambda data, node_info: answer)
    device = world.device("phone", ready=False)
    device.execute("PRAGMA user_login='{}'")
    wait_for(primary._node.waiting_nodes)
    answer.set_result((-3, "come back on Monday"))
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"] == {"code": "error", "reason": "come back on Monday"}
    late = Future()
    primary.register_function("user_login", 2, lambda data, node_info: late)
    device.execute("PRAGMA user_login='{}'")
    late.set_exception(ValueError("boom"))
    failed = "the authorization logic failed; try again later"
    wait_for(lambda: (device.sync_status["auth"]["error"] or {}).get("reason") == failed)


def test_no_password_is_in_the_file(primary, make, world):
    accounts = make()
    accounts.add("ada@example.org", PASSWORD)
    assert PASSWORD not in repr(vars(accounts))
    with sqlite3.connect(f"file:{world.folder}/primary.db?mode=ro", uri=True) as db:
        assert PASSWORD not in "\n".join(db.iterdump())
    db.close()


def test_logins_at_the_same_time_do_not_disturb_each_other(primary, make):
    accounts = make()
    ids = {n: accounts.add(f"{n}@example.org", f"password {n}") for n in range(4)}
    login = primary._node.authorizer.get("user_login")

    def sign_in(n):
        return json.dumps({"email": f"{n}@example.org", "password": f"password {n}"})

    asked = [(n, login(sign_in(n), "{}")) for n in range(4)]
    asked += [(n, login(sign_in(n), "{}")) for n in range(4)]
    assert [answer.result(30) for _, answer in asked] == [ids[n] for n, _ in asked]


# --- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def cli(capsys, monkeypatch):
    def call(*arguments, given=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code = run(["accounts", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_accounts_are_looked_after_beside_the_process_that_serves(world, programs, cli):
    uri = f"file:{world.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:0&auth=user"
    process = programs.start(SERVE, uri)
    world.address = process.stdout.readline().split()[1]
    path = world.folder / "primary.db"
    assert cli("add", "Ada@Example.org", path, given=f"{PASSWORD}\n") == (0, "", "user 2: Ada@Example.org\n")
    device = world.device("phone", ready=False)
    device.execute(f"""PRAGMA user_login='{{"email": "ada@example.org", "password": "{PASSWORD}"}}'""")
    assert device.wait_ready(15), device.sync_status
    assert device.sync_status["user_id"] == 2
    (found,) = [json.loads(line) for line in cli(path, "--json")[1].splitlines()]
    assert (found["user_id"], found["email"]) == (2, "ada@example.org")
    assert cli("passwd", "ada@example.org", path, given="another password\n")[0] == 0
    laptop = world.device("laptop", ready=False)
    laptop.execute(f"""PRAGMA user_login='{{"email": "ada@example.org", "password": "{PASSWORD}"}}'""")
    wait_for(lambda: laptop.sync_status["auth"]["error"])
    code, _, err = cli("remove", "ada@example.org", path)
    assert (code, "devices of user 2 stay signed in" in err) == (0, True)
    assert cli(path)[1] == ""


SERVE = """
import octodb, sys
primary = octodb.connect(sys.argv[1])
accounts = octodb.Accounts(primary)
print("at", primary.sync_status["bind"][0])
sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("arguments", "given", "code", "told"),
    [
        (["add", "nobody"], PASSWORD, 2, "no e-mail address"),
        (["add", "a@b.c"], "short", 2, "at least 8 characters"),
        (["add", "a@b.c"], "", 2, "no password was given"),
        (["add", "ada@example.org"], PASSWORD, 1, "has an account already"),
        (["passwd", "a@b.c"], PASSWORD, 1, "has no account"),
        (["remove", "a@b.c"], "", 1, "has no account"),
    ],
)
def test_what_the_command_refuses(world, cli, arguments, given, code, told):
    world.primary(auth="user")
    world.close()
    assert cli("add", "ada@example.org", world.folder / "primary.db", given=PASSWORD)[0] == 0
    found, out, err = cli(*arguments, world.folder / "primary.db", given=given)
    assert (found, out) == (code, "")
    assert told in err
    assert PASSWORD not in err
