"""Wrong URIs, files, roles, passwords and bytes: a clear error that says what to do, and nothing lost."""

import os
import random
import socket
import tempfile

import pytest

import octodb
from tests.integration.conftest import free_port, rows, sign_in, wait_for
from tests.integration.dosing_proxy import DosingProxy

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("node=secondary&conect=tcp://h:1", "connect="),
        ("node=primry&bind=tcp://127.0.0.1:0", "node=primary"),
        ("node=secondary&connect=h:1", "tcp://host:port"),
        ("node=secondary&connect=tcp://h:99999", "65535"),
        ("node=secondary&connect=", "connect=tcp://"),
        ("node=primary&connect=tcp://h:1", "bind="),
        ("node=secondary&bind=tcp://h:1", "connect="),
        ("node=primary&auth=usr", "auth=user"),
        ("node=secondary&auth=user&connect=tcp://h:1", "primary decides"),
        ("node=secondary&key=secret", "key="),
        ("node=secondary&connect=ssl://h:1", "tls://"),
        ("node=secondary&node=primary", "twice"),
        ("connect=tcp://h:1", "node=secondary"),
    ],
)
def test_a_wrong_uri_names_the_part_and_the_remedy(tmp_path, query, words):
    with pytest.raises(octodb.ConfigError) as caught:
        octodb.connect(f"file:{tmp_path}/x.db?{query}")
    assert words in f"{caught.value} | {caught.value.hint}"
    assert "secret" not in f"{caught.value} | {caught.value.hint}"
    assert not list(tmp_path.iterdir())


def test_a_port_in_use(world):
    world.primary(SCHEMA)
    with pytest.raises(octodb.ConnectError, match="in use") as caught:
        octodb.connect(f"file:{world.folder}/other.db?node=primary&bind={world.address}")
    assert "bind=" in caught.value.hint
    assert not os.path.exists(f"{world.folder}/other.db"), "a file would keep its role and auth mode for ever"


def test_no_primary_reachable(world):
    device = world.device("device", connect=f"tcp://127.0.0.1:{free_port()}", ready=False)
    wait_for(lambda: device.sync_status["last_error"])
    assert "connection refused" in device.sync_status["last_error"]
    assert device.wait_ready(0.1) is False
    with pytest.raises(octodb.NotReadyError) as caught:
        device.execute("SELECT * FROM t")
    assert "wait_ready" in caught.value.hint
    assert device.execute("SELECT 1 + 1").fetchone() == (2,)
    assert device.execute("PRAGMA foreign_keys").fetchone() == (0,)
    device.commit()
    device.rollback()


def test_a_wrong_password_then_the_right_one(world):
    world.primary(SCHEMA, accounts=True)
    sign_in(world.device("first", user="ada"), "ada")
    second = world.device("second", ready=False)
    second.execute('PRAGMA user_login=\'{"email": "ada@example.org", "password": "wrong password"}\'')
    wait_for(lambda: second.sync_status["auth"]["error"])
    status = second.sync_status
    assert status["auth"]["error"]["code"] == "denied"
    assert (status["node_id"], status["state"]) == (0, "unauthorized")
    sign_in(second, "ada")
    assert second.wait_ready(10)
    # an authorized device that signs in again changes nothing
    second.execute("PRAGMA user_login='{}'")
    assert second.wait_synced(10)


def test_a_refused_device(world):
    primary = world.primary(SCHEMA, auth="node")
    primary.register_function("new_node", 1, lambda node_info: -1)
    device = world.device("device", ready=False)
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"]["code"] == "denied"
    assert not device.is_ready()


def test_a_failing_callback_is_an_error_and_not_a_refusal(world, capsys):
    primary = world.primary(SCHEMA, auth="user")

    def user_login(data, node_info):
        raise RuntimeError("the user service is down")

    primary.register_function("user_login", 2, user_login)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_login='x'")
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"]["code"] == "error"
    assert "service is down" not in str(device.sync_status)


def test_files_of_the_wrong_kind(world):
    world.primary(SCHEMA)
    world.device("device")
    (world.folder / "text.db").write_text("this is no database, just text. " * 99)
    for name, query, error in (
        ("text", "node=primary", octodb.DatabaseError),
        ("primary", "node=secondary", octodb.ConfigError),
        ("device", "node=primary", octodb.ConfigError),
        ("primary", "node=primary&auth=user", octodb.ConfigError),
        ("no/such/folder/x", "node=primary", octodb.OperationalError),
    ):
        with pytest.raises(error) as caught:
            octodb.connect(f"file:{world.folder}/{name}.db?{query}")
        assert caught.value.hint, name
    plain = octodb.connect(world.folder / "plain.db")
    plain.execute("CREATE TABLE mine (a)")
    plain.commit()
    plain.close()
    with pytest.raises(octodb.ConfigError, match="already has tables"):
        octodb.connect(f"file:{world.folder}/plain.db?node=secondary")


def test_a_nodes_file_is_not_opened_or_attached_as_a_plain_one(world):
    world.primary(SCHEMA)
    path = world.folder / "primary.db"
    with pytest.raises(octodb.ConfigError, match="node"):
        octodb.connect(path)
    reader = octodb.connect(f"file:{path}?mode=ro", uri=True)
    assert rows(reader, "SELECT * FROM t") == []
    reader.close()
    plain = octodb.connect(":memory:")
    with pytest.raises(octodb.NotSupportedError, match="attached"):
        plain.execute("ATTACH ? AS x", (str(path),))
    plain.close()


READ_ONLY_FOLDER = """
import os, sys, octodb
if os.geteuid() == 0:  # root may write everywhere
    os.setuid(65534)
try:
    octodb.connect(f"file:{sys.argv[1]}/x.db?node=primary")
except octodb.OperationalError as error:
    print(type(error).__name__, "|", error, "|", error.hint)
"""


def test_a_folder_that_cannot_be_written(programs):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may not be entered by another user
        os.chmod(folder, 0o555)
        kind, message, hint = programs.run(READ_ONLY_FOLDER, folder).strip().split(" | ")
        assert kind == "OperationalError"
        assert folder in message
        assert "read and write" in hint
        assert os.listdir(folder) == []


def test_a_sign_up_given_before_there_is_a_server_is_sent_when_there_is_one(world):
    port = free_port()
    device = world.device("device", connect=f"tcp://127.0.0.1:{port}", ready=False)
    device.execute('PRAGMA user_signup=\'{"email": "ada@example.org", "password": "password of ada"}\'')
    wait_for(lambda: device.sync_status["last_error"])
    assert (device.sync_status["node_id"], device.is_ready()) == (0, False)
    primary = world.primary(SCHEMA, accounts=True, port=port)
    assert device.wait_ready(15), device.sync_status
    device.execute("INSERT INTO t (a) VALUES ('at last')")
    device.commit()
    assert device.wait_synced(10)
    assert rows(primary, "SELECT a, row_owner FROM t") == [("at last", device.sync_status["user_id"])]


@pytest.mark.parametrize(("auth", "name", "nargs"), [("user", "user_login", 2), ("node", "new_node", 1)])
def test_a_device_that_asks_before_the_callback_is_registered_is_answered_by_it(world, auth, name, nargs):
    """A primary listens from connect() on, and a waiting device may be faster than the program's next lines."""
    primary = world.primary(SCHEMA, auth=auth)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_login='once'")  # ignored by auth=node
    wait_for(lambda: device.sync_status["connected"] and device.sync_status["state"] == "authorizing")
    asked = []

    def answer(*arguments):
        asked.append(arguments)
        return "secondary" if auth == "node" else 0

    primary.register_function(name, nargs, answer)
    assert device.wait_ready(10), device.sync_status
    assert [len(arguments) for arguments in asked] == [nargs]


@pytest.fixture
def proxy():
    proxy = DosingProxy(free_port(), free_port(), dose_bytes=1 << 30)
    proxy.start()
    yield proxy
    proxy.close()


def test_a_sign_up_sent_again_after_a_cut_is_not_refused_for_its_own_account(world, proxy):
    """The connection is lost before the answer; what the sign-up did must reach the device all the same."""
    primary = world.primary(SCHEMA, auth="user", port=proxy.server_port)
    device = world.device("device", connect=f"tcp://127.0.0.1:{proxy.port}", ready=False)
    device.execute('PRAGMA user_signup=\'{"email": "ada@example.org", "password": "password of ada"}\'')
    for cut in (True, False):
        wait_for(lambda: device.sync_status["connected"] and device.sync_status["state"] == "authorizing")
        if cut:
            proxy.cut()
            wait_for(lambda: not device.sync_status["connected"])
    world.open.append(octodb.Accounts(primary))
    wait_for(lambda: device.is_ready() or device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"] is None
    assert device.wait_ready(10)


def test_garbage_closes_its_connection_and_the_server_goes_on(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    host, port = "127.0.0.1", int(world.address.rpartition(":")[2])
    generator = random.Random(7)
    samples = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x05abcde",
        b"\x00\x10\x00\x01" + bytes(70000),  # above what a stranger may send
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x91\x01",  # a hello without fields
        b"\x00\x00\x00\x01\x90",
        b"\x80\x00\x00\x00" * 3,
    ] + [generator.randbytes(generator.randint(1, 200)) for _ in range(60)]
    for sample in samples:
        with socket.create_connection((host, port), timeout=10) as stranger:
            stranger.sendall(sample)
            stranger.shutdown(socket.SHUT_WR)
            while True:  # the server closes it, whatever it was
                try:
                    if not stranger.recv(65536):
                        break
                except ConnectionResetError:
                    break
    half = socket.create_connection((host, port))
    half.sendall(b"\x00\x00")
    device.execute("INSERT INTO t (a) VALUES ('still here')")
    device.commit()
    assert device.wait_synced(10)
    assert rows(primary, "SELECT a FROM t") == [("still here",)]
    half.close()


def test_a_copied_device_file_gets_an_identity_of_its_own_and_keeps_its_queue(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    uri = world.device_uri("device")
    world.close(device)
    (world.folder / "copy.db").write_bytes((world.folder / "device.db").read_bytes())
    device = octodb.connect(uri)
    world.open.append(device)
    device.execute("INSERT INTO t (a) VALUES ('original')")
    device.commit()
    assert device.wait_synced(10)
    copy = octodb.connect(f"file:{world.folder}/copy.db?node=secondary")
    copy.execute("INSERT INTO t (a) VALUES ('copy')")  # offline, at the same time as the original
    copy.commit()
    copy.close()
    copy = world.device("copy")
    errors = []
    copy.on("error", lambda info: errors.append(info["code"]))
    assert copy.wait_synced(10)
    assert device.wait_synced(10)
    for node in (primary, device, copy):
        wait_for(lambda node=node: rows(node, "SELECT a FROM t ORDER BY a") == [("copy",), ("original",)])
    assert copy.sync_status["node_id"] != device.sync_status["node_id"]
    copy.execute("INSERT INTO t (a) VALUES ('later')")
    copy.commit()
    assert copy.wait_synced(10)
    (row_id,) = rows(copy, "SELECT id FROM t WHERE a = 'later'")[0]
    assert row_id >> 32 == copy.sync_status["node_id"]
    (info,) = [row for row in rows(primary, "PRAGMA nodes") if row[0] == copy.sync_status["node_id"]]
    assert info[1] == device.sync_status["user_id"]
    primary.execute(f"PRAGMA revoke_node = {device.sync_status['node_id']}")
    for node in (device, copy):
        wait_for(lambda node=node: node.sync_status["state"] == "revoked")


def test_a_second_sign_in_before_the_first_is_answered(world):
    """An impatient user presses the button twice: the connection stays and one of the requests counts."""
    world.primary(SCHEMA, accounts=True)
    device = world.device("device", ready=False)
    wait_for(lambda: device.sync_status["state"] == "unauthorized")
    errors = []
    device.on("error", errors.append)
    for _ in range(2):
        device.execute('PRAGMA user_signup=\'{"email": "ada@example.org", "password": "12345678"}\'')
    assert device.wait_ready(10)
    assert errors == []


KEY = "ab" * 32


@pytest.mark.parametrize(
    ("auth", "pragma", "why"),
    [
        ("user", "revoke_node='ab'", "64 hexadecimal digits"),
        ("user", f"revoke_node='{KEY}'", "no such node"),
        ("user", "revoke_node=99", "no such node"),
        ("user", "revoke_node=1", "itself"),
        ("user", "authorize_user", "needs a public key"),
        ("user", "authorize_user='ab:0'", "64 hexadecimal digits"),
        ("user", f"authorize_user='{KEY}:ada'", "a number"),
        ("user", f"authorize_node='{KEY}:secondary'", "auth=user"),
        ("node", f"authorize_node='{KEY}:boss'", "no role"),
        ("node", f"authorize_user='{KEY}:0'", "auth=node"),
        ("user", f"authorize_user='{KEY}:-2'", "a number"),
        ("none", f"authorize_node='{KEY}:-1'", "nobody is asked"),
        ("node", "authorizer_service='127.0.0.1:1'", "is not an address"),
        ("node", "authorizer_service='tcp://127.0.0.1:0'", "port 0"),
        ("node", "authorizer_service='tcp://127.0.0.1:65536'", "above 65535"),
    ],
)
def test_authorization_is_never_ignored_in_silence(world, auth, pragma, why):
    primary = world.primary(SCHEMA, auth=auth)
    with pytest.raises(octodb.Error, match=why):
        primary.execute(f"PRAGMA {pragma}")
    with pytest.raises(octodb.OperationalError, match="is for a primary"):
        world.device("device", ready=False).execute(f"PRAGMA {pragma.partition('=')[0]}='{KEY}:1'")


def test_text_that_is_not_utf_8(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    for node in (primary, device):
        node.execute("INSERT INTO t (a) VALUES (CAST(x'ff41' AS TEXT))")
        with pytest.raises(octodb.DataError, match="UTF-8") as caught:
            node.commit()
        assert "BLOB" in caught.value.hint
        node.rollback()
    assert device.wait_synced(10)
    assert rows(primary, "SELECT * FROM t") == []
