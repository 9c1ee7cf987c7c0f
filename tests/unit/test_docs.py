"""The documents tell of everything there is: each message, PRAGMA, parameter, error, event, command and meta table."""

import pathlib
import re

import msgspec
import pytest

import octodb.errors
from octocli.main import COMMANDS
from octodb.model import node_uri
from octodb.runtime.authorizer import CALLBACK_NAMES
from octodb.runtime.events import EVENTS
from octodb.runtime.pragmas import PRAGMA_NAMES
from octodb.storage import meta
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
    source = pathlib.Path(meta.__file__).read_text()
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", source))
    assert len(tables) > 8
    assert not [table for table in tables if f"| `{table}` |" not in text_of("docs/storage.md")]


def test_files_named_in_the_architecture_exist():
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text_of("ARCHITECTURE.md")))
    known = [str(path.relative_to(ROOT)) for part in ("oct*", "tests") for path in ROOT.glob(f"{part}/**/*.py")]
    assert not [name for name in named if not any(path.endswith(name) for path in known)]
