"""URIs of nodes: what they say, what is wrong with them, and what to write instead (contract of the URI parameters)."""

import pickle

import pytest

from octodb.errors import ConfigError
from octodb.model.identities import AuthMode, Role
from octodb.model.node_uri import Address, looks_like_node_uri, parse_address, parse_node_uri


def test_a_primary():
    uri = parse_node_uri("file:/data/app.db?node=primary&bind=tcp://0.0.0.0:1234,tcp://[::1]:0&auth=user")
    assert (uri.path, uri.role, uri.auth) == ("/data/app.db", Role.PRIMARY, AuthMode.USER)
    assert uri.bind == (Address("0.0.0.0", 1234), Address("::1", 0))
    assert uri.sqlite_uri == "file:/data/app.db"


def test_a_secondary_keeps_the_order_of_its_primaries_and_sqlites_own_parameters():
    uri = parse_node_uri("file:app.db?node=secondary&connect=tcp://h1:1,tcp://h2:2&mode=ro")
    assert [str(address) for address in uri.connect] == ["tcp://h1:1", "tcp://h2:2"]
    assert uri.read_only
    assert uri.sqlite_uri == "file:app.db?mode=ro"


@pytest.mark.parametrize("text", ["app.db", "file:app.db", "file:app.db?mode=ro", ":memory:"])
def test_a_plain_database(text):
    assert parse_node_uri(text).role is None
    assert not looks_like_node_uri(text)


@pytest.mark.parametrize(
    "text",
    [
        "file:app.db?node=secondary",
        "file:/a%20b/ü.db?node=primary&bind=tcp://[fe80::1]:80&auth=none",
        "file:a.db?node=primary&bind=tcp://h:1&auth=user&authorizer=tcp://[::1]:4321",
        "file:x.db?node=secondary&connect=tcp://a:1,tcp://b:2&vfs=unix",
        "file:x.db?node=secondary&connect=tls://a:1,tls://b:2&tls_ca=/etc/a%26b/ca.pem",
        f"file:x.db?node=secondary&connect=tls://a:1&tls_pin={'ab' * 32},sha256:{'CD:' * 31}CD",
    ],
)
def test_what_is_remembered_means_the_same(text):
    uri = parse_node_uri(text)
    assert parse_node_uri(str(uri)) == uri
    assert looks_like_node_uri(str(uri))


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("node=secondary&conect=tcp://h:1", "unknown URI parameter conect=", "did you mean connect=?"),
        ("node=secondary&zzzzzz=1", "unknown URI parameter zzzzzz=", "known parameters: node"),
        ("node=primry", "node=primry is no role", "did you mean node=primary?"),
        ("node=x", "node=x is no role", "use node=primary or node=secondary"),
        ("bind=tcp://h:1", "no node= parameter", "add node=primary"),
        ("connect=tcp://h:1", "no node= parameter", "add node=secondary"),
        ("node=primary&auth=usr", "auth=usr is no authorization mode", "did you mean auth=user?"),
        ("node=secondary&auth=user", "auth= is for primaries", "the primary decides"),
        ("node=secondary&bind=tcp://h:1", "bind= is for primaries", "connect="),
        ("node=primary&connect=tcp://h:1", "connect= is for secondaries", "bind="),
        ("node=secondary&connect=tcp://h:0", "names port 0", "port"),
        ("node=secondary&connect=", "connect= is empty", "connect=tcp://host:port"),
        ("node=secondary&connect=h:1", "is not an address", "tcp://host:port"),
        ("node=secondary&connect=ssl://h:1", "is not an address", "tls://host:port"),
        ("node=secondary&connect=tcp://h:1&tls_ca=ca.pem", "no address is tls://", "write tls:// in connect="),
        ("node=secondary&connect=tcp://h:99999", "above 65535", "65535"),
        ("node=secondary&node=primary", "node= twice", "keep one"),
        ("node=secondary&connect", "has no value", "connect=value"),
        ("node=secondary&authorizer=tcp://h:1", "authorizer= is for primaries", "the primary asks"),
        ("node=primary&authorizer=h:1", "is not an address", "tcp://host:port"),
        ("node=primary&authorizer=tls://h:1", "is not an address", "tcp://host:port"),
        ("node=primary&authorizer=tcp://h:0", "authorizer= names port 0", "listens on"),
        ("node=primary&authoriser=tcp://h:1", "unknown URI parameter", "did you mean authorizer=?"),
        ("node=secondary&immutable=1", "cannot be immutable", "mode=ro"),
        ("node=secondary&mode=memory", "needs a database file", "file:app.db"),
        ("node=secondary&key=secret", "key= without cipher=", "cipher=chacha20"),
    ],
)
def test_a_wrong_uri_says_what_is_wrong_and_what_to_write(query, message, hint):
    with pytest.raises(ConfigError) as caught:
        parse_node_uri(f"file:app.db?{query}")
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_a_key_is_never_in_an_error():
    with pytest.raises(ConfigError) as caught:
        parse_node_uri("file:app.db?node=secondary&key=secret&conect=tcp://h:1")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_node_needs_a_file(path):
    with pytest.raises(ConfigError, match="needs a database file"):
        parse_node_uri(f"file:{path}?node=secondary")


@pytest.mark.parametrize(
    "text", ["", "tcp://", "tcp://h", "tcp://h:", "tcp://:1", "tcp://h:-1", "udp://h:1", "tcp://a b:1", "tcp://::1:1"]
)
def test_what_is_no_address(text):
    with pytest.raises(ConfigError):
        parse_address(text)


def test_a_file_uri_may_name_localhost_and_no_other_host():
    assert parse_node_uri("file://localhost/a.db?node=secondary").path == "/a.db"
    assert parse_node_uri("file:///a.db?node=secondary").path == "/a.db"
    with pytest.raises(ConfigError, match="names a host: server"):
        parse_node_uri("file://server/a.db?node=secondary")


def test_a_key_of_the_file_and_where_it_may_come_from():
    uri = parse_node_uri("file:app.db?node=secondary&connect=tcp://h:1&cipher=ChaCha20&key=two%20words%26more")
    assert (uri.cipher, uri.secret.reveal(), uri.file_key.cipher) == ("chacha20", "two words&more", "chacha20")
    assert "two words" not in f"{uri} {uri!r} {uri.file_key!r} {uri.secret}"
    assert str(uri) == "file:app.db?node=secondary&connect=tcp://h:1&cipher=chacha20"
    in_file = parse_node_uri("file:app.db?node=secondary&cipher=chacha20&key_file=/a%20b/the.key")
    assert parse_node_uri(str(in_file)) == in_file
    with pytest.raises(TypeError):
        pickle.dumps(uri)


def test_a_plain_database_may_be_encrypted_too():
    uri = parse_node_uri("file:plain.db?cipher=chacha20&hexkey=00Ff&mode=ro")
    assert (uri.role, uri.sqlite_uri) == (None, "file:plain.db?mode=ro")
    for text in ("file:plain.db?key=geheim", "file:plain.db?cipher=chacha20", "file:plain.db?key_file=k"):
        assert looks_like_node_uri(text)  # or the key would become part of a file's name


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("cipher=rc4&key=geheim", "RC4 is weak", "chacha20"),
        ("cipher=XRC4&key=geheim", "RC4 is weak", "chacha20"),
        ("cipher=cha-cha&key=geheim", "is no cipher", "chacha20"),
        ("cipher=chacha20&key=geheim&key_file=k", "key= and key_file=", "keep one"),
        ("cipher=chacha20&key=geheim&hexkey=00", "key= and hexkey=", "keep one"),
        ("cipher=chacha20&hexkey=geheim", "hexadecimal", "key_file="),
        ("cipher=chacha20&hexkey=012", "hexadecimal", "key="),
        ("cipher=chacha20&key=", "key= is empty", "with a value"),
        ("cipher=chacha20&key=ge%00heim", "NUL", "with a value"),
        ("cipher=chacha20&key=x&geheim", "mean something else", "%26"),
        ("cipher=chacha20&key=x#geheim", "mean something else", "%23"),
        ("cipher=chacha20&key=geheim%ff", "mean something else", "%25"),
        ("hexkey=00", "hexkey= without cipher=", "tls://"),
        ("key_file=geheim", "key_file= without cipher=", "add cipher=chacha20"),
    ],
)
@pytest.mark.parametrize("node", ["node=secondary&connect=tcp://h:1&", ""])
def test_what_is_wrong_with_a_key_is_told_without_it(node, query, message, hint):
    with pytest.raises(ConfigError) as caught:
        parse_node_uri(f"file:app.db?{node}{query}")
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "geheim" not in f"{caught.value} {caught.value.hint}"


def test_what_may_be_the_rest_of_a_key_is_not_told_as_an_unknown_parameter():
    with pytest.raises(ConfigError, match="mean something else") as caught:
        parse_node_uri("file:app.db?node=secondary&cipher=chacha20&key=x&geheim=1")
    assert "geheim" not in f"{caught.value} {caught.value.hint}"
