"""tls:// between real nodes: who is trusted, and what somebody between them gets."""

import contextlib
import socket
import ssl
import warnings
from unittest import mock

import pytest
from cryptography import x509

import octodb
from octodb.runtime import tls, tls_listener
from octodb.sync import strangers
from tests.integration.conftest import wait_for
from tests.integration.tls_relay import TlsRelay

SCHEMA = "CREATE TABLE note (id INTEGER PRIMARY KEY, text, row_owner)"
KEY = "correct horse battery staple"


class TlsWorld:
    def __init__(self, folder):
        self.folder = folder
        self.stack = contextlib.ExitStack()

    def primary(self, parameters="", *, name="primary", auth="none", port=0):
        uri = f"file:{self.folder}/{name}.db?node=primary&bind=tls://127.0.0.1:{port}&auth={auth}{parameters}"
        primary = self.stack.enter_context(contextlib.closing(octodb.connect(uri)))
        if not primary.execute("SELECT 1 FROM sqlite_schema WHERE name = 'note'").fetchone():
            primary.execute(SCHEMA)
            primary.commit()
        self.address = primary.sync_status["bind"][0]
        self.pin = primary.sync_status["certificate"]
        return primary

    def device(self, parameters="", *, name="device", address=None):
        uri = f"file:{self.folder}/{name}.db?node=secondary&connect={address or self.address}{parameters}"
        return self.stack.enter_context(contextlib.closing(octodb.connect(uri)))

    def relay(self):
        return self.stack.enter_context(contextlib.closing(TlsRelay(self.address)))


@pytest.fixture
def world(tmp_path):
    world = TlsWorld(tmp_path)
    with world.stack:
        yield world


def why_not(device):
    """The reason why it does not come to be connected."""
    wait_for(lambda: device.sync_status["last_error"])
    assert not device.is_ready()
    return device.sync_status["last_error"]


def writes_and_syncs(device):
    device.execute("INSERT INTO note (text) VALUES ('hello')")
    device.commit()
    return device.flush(15)


def pem_files(folder, name="primary"):
    chain, key = tls.make_certificate(())
    (folder / f"{name}.pem").write_bytes(chain)
    (folder / f"{name}.key").write_bytes(key)
    return folder / f"{name}.pem", folder / f"{name}.key"


def test_a_pinned_certificate_of_its_own_is_enough(world):
    primary = world.primary()
    device = world.device(f"&tls_pin={world.pin}")
    assert device.wait_ready(15), device.sync_status
    assert writes_and_syncs(device)
    assert primary.execute("SELECT text FROM note").fetchall() == [("hello",)]
    assert device.sync_status["server"] == world.address


def test_the_certificate_stays_the_same_and_is_in_the_file_alone(world):
    world.primary().close()
    pin = world.pin
    world.primary()
    assert world.pin == pin
    assert not [path for path in world.folder.iterdir() if b"PRIVATE KEY" in path.read_bytes() and path.suffix != ".db"]


@pytest.mark.parametrize("parameters", ["", "&tls_pin=" + "ab" * 32], ids=["no pin, no CA", "another pin"])
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(world, parameters):
    world.primary()
    reason = why_not(world.device(parameters))
    assert "pin" in reason
    assert world.address in reason


def test_a_ca_vouches_for_the_name_it_has_signed(world):
    certificate, key = pem_files(world.folder)
    world.primary(f"&tls_cert={certificate}&tls_key={key}")
    localhost = world.address.replace("127.0.0.1", "localhost")
    device = world.device(f"&tls_ca={certificate}", address=localhost)
    assert device.wait_ready(15), device.sync_status
    assert "IP address mismatch" in why_not(world.device(f"&tls_ca={certificate}", name="other"))


def test_older_tls_is_refused(world):
    world.primary()
    host, port = world.address.removeprefix("tls://").rsplit(":", 1)

    def agreed(version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as secure:
            return secure.version()

    with pytest.raises(ssl.SSLError):
        agreed(ssl.TLSVersion.TLSv1_2)
    assert agreed(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_a_plain_device_is_told_what_may_be_wrong_and_the_other_way_round(world, tmp_path):
    world.primary()
    assert "is it tls://?" in why_not(world.device(address=world.address.replace("tls", "tcp")))
    with contextlib.closing(octodb.connect(f"file:{tmp_path}/plain.db?node=primary&bind=tcp://127.0.0.1:0")) as plain:
        address = plain.sync_status["bind"][0].replace("tcp", "tls")
        assert "is it tcp://?" in why_not(world.device(f"&tls_pin={world.pin}", name="other", address=address))


# --- somebody in between -----------------------------------------------------------------------------------


def test_a_relay_that_the_device_trusts_is_found_out_by_the_primary(world):
    world.primary()
    relay = world.relay()
    assert "signature does not fit" in why_not(world.device(f"&tls_pin={relay.pin}", address=relay.address))


def test_without_the_channel_binding_the_relay_would_read_everything(world):
    with (
        mock.patch("octodb.runtime.primary_engine.channel_binding", return_value=b""),
        mock.patch("octodb.runtime.device_engine.channel_binding", return_value=b""),
    ):
        world.primary()
        relay = world.relay()
        device = world.device(f"&tls_pin={relay.pin}", address=relay.address)
        assert device.wait_ready(15), str(device.sync_status)
        assert writes_and_syncs(device)
        assert b"hello" in relay.seen


# --- handshakes that are never finished ----------------------------------------------------------------------


def knock(world, count):
    host, port = world.address.removeprefix("tls://").rsplit(":", 1)
    return [world.stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]


def is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def connections_of(primary):
    return primary._statements.node._engine._clients


def test_they_end_and_leave_nothing(world):
    with mock.patch.object(tls_listener, "_HANDSHAKE_S_MAX", 0.5):
        primary = world.primary()
        silent = knock(world, 5)
        wait_for(lambda: len(connections_of(primary)) == 5)
        (noisy,) = knock(world, 1)
        noisy.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for(lambda: all(is_closed(one) for one in [*silent, noisy]))
        wait_for(lambda: not connections_of(primary))
    device = world.device(f"&tls_pin={world.pin}")
    assert device.wait_ready(15), device.sync_status


def test_an_address_has_few_of_them_and_the_oldest_gives_way(world):
    with mock.patch.object(strangers, "UNPROVED_OF_ADDRESS_MAX", 8):
        primary = world.primary()
        silent = knock(world, 20)
        wait_for(lambda: [is_closed(one) for one in silent] == [True] * 12 + [False] * 8)
        assert primary.sync_status["refused"]["crowded_out"] == 12
        device = world.device(f"&tls_pin={world.pin}")
        assert device.wait_ready(15), device.sync_status
        wait_for(lambda: len(connections_of(primary)) <= 9)


# --- the network key ---------------------------------------------------------------------------------------


def test_a_network_key_proves_both_sides_without_a_ca(world):
    world.primary(f"&network_key={KEY}")
    device = world.device(f"&network_key={KEY}")
    assert device.wait_ready(15), device.sync_status
    assert writes_and_syncs(device)


def test_who_does_not_know_the_network_key_is_not_let_in(world):
    primary = world.primary(f"&network_key={KEY}")
    assert "only devices that know its network key" in why_not(world.device(f"&tls_pin={world.pin}", name="none"))
    assert "does not fit" in why_not(world.device("&network_key=another one, as long", name="wrong"))
    assert primary.execute("PRAGMA nodes").fetchall()[1:] == []


def test_a_relay_without_the_key_gets_nothing_of_the_device(world):
    world.primary(f"&network_key={KEY}")
    relay = world.relay()
    device = world.device(f"&network_key={KEY}", address=relay.address)
    assert "somebody relays" in why_not(device)
    assert b"hostname" not in relay.seen, "the device has not told of itself"


def test_a_primary_without_the_key_is_not_talked_to(world):
    primary = world.primary()
    assert "has no network key" in why_not(world.device(f"&network_key={KEY}"))
    assert primary.execute("PRAGMA nodes").fetchall()[1:] == []


def test_a_primary_is_not_served_without_its_key_by_mistake(world):
    world.primary(f"&network_key={KEY}").close()
    with pytest.raises(octodb.ConfigError, match="has a network key") as caught:
        world.primary()
    assert "network_key=" in caught.value.hint
    world.primary("&network_key=").close()
    world.primary()


def test_the_network_key_has_other_names(world, monkeypatch):
    """key=, hexkey= and key_file= are the network's where there is no cipher=; the environment's counts, too."""
    file = world.folder / "network.key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    world.primary(f"&key_file={file}")
    for number, parameters in enumerate((f"&key={KEY}", f"&hexkey={KEY.encode().hex()}", f"&key_file={file}")):
        device = world.device(parameters, name=f"device{number}")
        assert device.wait_ready(15), device.sync_status
        assert KEY not in str(device.node_uri)
    monkeypatch.setenv("OCTODB_NETWORK_KEY", KEY)
    assert world.device(name="last").wait_ready(15)
    with pytest.raises(octodb.ConfigError, match="OCTODB_NETWORK_KEY needs tls://"):
        world.device(name="mixed", address=f"{world.address},tcp://127.0.0.1:1")


def test_the_network_key_is_in_no_file_and_no_text(world):
    primary = world.primary(f"&network_key={KEY}")
    device = world.device(f"&network_key={KEY}")
    assert device.wait_ready(15)
    for node in (primary, device):
        assert KEY not in repr(node.node_uri)
        assert KEY not in str(node.node_uri)
        assert KEY not in str(node.sync_status)
    assert not [path for path in world.folder.iterdir() if KEY.encode() in path.read_bytes()]


# --- settings that are wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("&tls_cert=absent.pem", "cannot be read"),
        ("&tls_key=absent.pem", "without tls_cert="),
        ("&tls_ca=ca.pem", "is for secondaries"),
        ("&network_key=short", "could be guessed"),
        ("&hexkey=" + "ab" * 12, "could be guessed"),
        (f"&network_key={KEY}&key={KEY}", "another key are given"),
    ],
)
def test_wrong_settings_of_a_primary_are_errors(world, parameters, message):
    with pytest.raises(octodb.ConfigError, match=message):
        world.primary(parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("&tls_pin=abc", "is not the SHA-256 fingerprint"),
        ("&tls_ca=absent.pem", "cannot be read"),
        ("&tls_cert=cert.pem", "is for primaries"),
        (f"&tls_pin={'ab' * 32}&tls_ca=ca.pem", "both tls_ca= and tls_pin="),
    ],
)
def test_wrong_settings_of_a_device_are_errors(world, parameters, message):
    with pytest.raises(octodb.ConfigError, match=message):
        world.device(parameters, address="tls://127.0.0.1:1")


def test_security_on_a_plain_address_is_a_mistake(world):
    for parameters in (f"&tls_pin={'ab' * 32}", f"&network_key={KEY}"):
        with pytest.raises(octodb.ConfigError, match="tls://"):
            world.device(parameters, address="tcp://127.0.0.1:1")


def test_a_pin_is_worth_nothing_beside_a_plain_address(world):
    with pytest.raises(octodb.ConfigError, match="whoever blocks the others"):
        world.device(f"&tls_pin={'ab' * 32}", address="tls://127.0.0.1:1,tcp://127.0.0.1:2")


def test_a_network_key_without_a_role_is_not_dropped_in_silence(world):
    with pytest.raises(octodb.ConfigError, match="the URI has no node="):
        octodb.connect(f"file:{world.folder}/plain.db?network_key={KEY}")
    assert not (world.folder / "plain.db").exists()


def test_the_command_line_takes_the_key_beside_what_the_file_remembers(world):
    world.primary(f"&network_key={KEY}")
    assert world.device(f"&network_key={KEY}").wait_ready(15)
    short = f"file:{world.folder}/device.db?network_key={KEY}"
    found = {finding.step: finding for finding in octodb.diagnose(short)}
    assert found["protocol"].ok, found["protocol"]


@pytest.mark.parametrize("name", ["MÜLLER-PC", "x" * 70, ""])
def test_a_host_whose_name_fits_no_certificate_has_one_all_the_same(name):
    with mock.patch.object(socket, "gethostname", return_value=name):
        chain, _ = tls.make_certificate(())
    names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_a_certificate_that_cannot_be_read_leaves_no_database(world):
    with pytest.raises(octodb.ConfigError, match="cannot be read"):
        world.primary("&tls_cert=absent.pem", name="other")
    assert not (world.folder / "other.db").exists()


def test_a_certificate_with_another_key_is_refused(world):
    certificate, _ = pem_files(world.folder)
    _, key = pem_files(world.folder, "other")
    with pytest.raises(octodb.ConfigError, match="is not the key of"):
        world.primary(f"&tls_cert={certificate}&tls_key={key}")


def test_a_certificate_of_its_own_names_the_host(world):
    chain, _ = tls.make_certificate(())
    names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert socket.gethostname() in names.get_values_for_type(x509.DNSName)


# --- plain connections -------------------------------------------------------------------------------------


def test_sign_ins_on_a_plain_connection_are_warned_of(tmp_path):
    uri = f"file:{tmp_path}/primary.db?node=primary&bind=tcp://0.0.0.0:0&auth=user"
    with pytest.warns(octodb.InsecureWarning, match="use tls:// in bind="):
        octodb.connect(uri).close()
    device = octodb.connect(f"file:{tmp_path}/device.db?node=secondary&connect=tcp://0.0.0.0:1")
    with contextlib.closing(device), pytest.warns(octodb.InsecureWarning, match="use tls:// in connect="):
        device.execute("PRAGMA user_login='{}'")


def test_on_this_machine_nobody_is_warned(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        octodb.connect(f"file:{tmp_path}/primary.db?node=primary&bind=tcp://127.0.0.1:0&auth=user").close()
