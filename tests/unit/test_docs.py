"""The documents tell of everything there is: each message, PRAGMA, parameter, error, event, command and meta table."""

import pathlib
import re

import msgspec
import pytest

import octodb.errors
from octocli.main import COMMANDS, cli
from octodb.model import node_uri
from octodb.runtime import primary_engine, refusals
from octodb.runtime.authorizer import CALLBACK_NAMES
from octodb.runtime.events import EVENTS
from octodb.runtime.pragmas import PRAGMA_NAMES
from octodb.storage import backups, meta
from octodb.storage.primary_store import SIGN_IN_LIMIT
from octodb.sync import sign_in_limits, strangers
from octodb.wire import messages

ROOT = pathlib.Path(__file__).resolve().parents[2]


def text_of(name):
    return (ROOT / name).read_text()


def message_types():
    found = vars(messages).values()
    return [t for t in found if isinstance(t, type) and issubclass(t, msgspec.Struct) and t.__struct_config__.tag]


@pytest.mark.parametrize("message", message_types(), ids=lambda message: message.__name__)
def test_every_message_is_in_the_protocol_with_number_and_fields(message):
    number = message.__struct_config__.tag
    (line,) = re.findall(rf"^\| {number} \| {message.__name__} \|.*$", text_of("docs/protocol.md"), re.MULTILINE)
    positions = [line.index(field) for field in message.__struct_fields__]
    assert positions == sorted(positions)


@pytest.mark.parametrize("name", sorted(PRAGMA_NAMES | CALLBACK_NAMES | EVENTS))
def test_every_pragma_callback_and_event_is_in_the_guide(name):
    assert re.search(rf"\b{name}\b", text_of("docs/guide.md"))


@pytest.mark.parametrize("name", node_uri.OCTODB_PARAMETERS + node_uri.LATER_PARAMETERS)
def test_every_parameter_is_in_the_guide(name):
    assert f"`{name}=" in text_of("docs/guide.md")


def test_every_error_of_ours_is_in_the_guide():
    ours = set(octodb.errors.__all__) - set(dir(__import__("sqlite3")))
    assert not [name for name in ours if f"`{name}`" not in text_of("docs/guide.md")]


def test_every_command_is_in_the_guide():
    line = next(line for line in text_of("docs/guide.md").splitlines() if line.startswith("`octodb serve`"))
    assert not [name for name in COMMANDS if f"`{name}`" not in line.replace("octodb ", "")]


def test_every_meta_table_is_in_the_storage_document():
    source = pathlib.Path(meta.tables.__file__).read_text()
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", source))
    assert len(tables) > 8
    assert not [table for table in tables if f"| `{table}` |" not in text_of("docs/storage.md")]


def test_what_a_restore_leaves_out_is_in_the_operations_document():
    text = text_of("docs/operations.md")
    assert f"ids go on {backups.IDENTITIES_SKIPPED:,}" in text
    assert f"row ids {backups.ROW_IDS_SKIPPED:,}" in text
    assert f"the newest {meta.Outbox.SENT_KEPT:,}" in text


@pytest.mark.parametrize("name", ["backup", "restore", "serve", "shell", "status"])
def test_commands_that_operators_need_are_told_with_options_that_exist(name):
    options = {flag for option in cli.get_command(None, name).params for flag in option.opts} | {"--quiet"}
    told = re.findall(rf"octodb (?:--quiet )?{name}\b(.*)", text_of("docs/operations.md"))
    assert told
    assert not [flag for line in told for flag in re.findall(r"--[a-z]+", line.split("`")[0]) if flag not in options]


def test_files_named_in_the_architecture_exist():
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text_of("ARCHITECTURE.md")))
    known = [str(path.relative_to(ROOT)) for part in ("oct*", "tests") for path in ROOT.glob(f"{part}/**/*.py")]
    assert not [name for name in named if not any(path.endswith(name) for path in known)]


def test_the_limits_in_the_document_are_those_in_the_code():
    text = text_of("docs/limits.md")
    assert not [kind for kind in refusals.KINDS if f"| `{kind}` |" not in text]
    assert sign_in_limits.FAILURES_OF_ADDRESS == SIGN_IN_LIMIT
    for number, row in (
        (strangers.CONNECTIONS_MAX, "connections in all"),
        (strangers.UNPROVED_OF_ADDRESS_MAX, "whose key is not proved"),
        (strangers.UNPROVED_MAX, "the same in all"),
        (strangers.WAITING_OF_ADDRESS_MAX, "proved, and not admitted"),
        (SIGN_IN_LIMIT, "sign-ins that failed, of one address"),
        (primary_engine._DOWNLOADS_BURST, "downloads from the beginning"),
        (primary_engine._ADOPTIONS_BURST, "new identities for copies"),
        (messages.CLAIMS_MAX, "new identities for copies"),
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
        assert f"{number:,}" in line, row
