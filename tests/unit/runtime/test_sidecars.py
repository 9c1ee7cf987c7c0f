"""The files beside a database: who runs its engine, and what that last said."""

import json
import stat
import threading

import pytest

import octodb
from octodb.runtime.engine_lock import EngineLock
from octodb.runtime.status_file import STATUS_SUFFIX, read_status_file, remove_status_file, write_status_file


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.db")


@pytest.fixture
def lock(path):
    """Held, as while an engine runs."""
    held = EngineLock(path)
    assert held.acquire()
    yield held
    held.release()


def test_one_engine_at_a_time(path, lock):
    other = EngineLock(path)
    assert not other.acquire()
    assert other.is_held_by_somebody()
    lock.release()
    assert not other.is_held_by_somebody()
    assert other.acquire()
    other.release()


def test_who_has_the_lock_may_ask_for_it_again(lock):
    assert lock.acquire()
    assert lock.is_held_by_somebody()


def test_looking_leaves_no_file(path, tmp_path):
    assert not EngineLock(path).is_held_by_somebody()
    assert list(tmp_path.iterdir()) == []


def test_letting_go_twice_is_harmless(lock):
    lock.release()
    lock.release()


def test_the_last_words_of_a_running_engine(path, lock):
    write_status_file(path, {"state": "in sync", "engine": {"pid": 5, "age_s": 0.0}})
    status = read_status_file(path)
    assert (status["state"], status["engine"]["pid"]) == ("in sync", 5)
    assert status["engine"]["age_s"] >= 0


def test_the_words_of_an_engine_that_is_gone_are_worth_nothing(path, lock):
    write_status_file(path, {"state": "in sync"})
    lock.release()
    assert read_status_file(path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"published_at": "x", "status": {}}', '"text"'])
def test_a_damaged_file_is_as_none(path, lock, text):
    with open(path + STATUS_SUFFIX, "w") as file:
        file.write(text)
    assert read_status_file(path) is None


def test_it_is_for_its_user_alone_and_replaced_whole(path, lock, tmp_path):
    write_status_file(path, {"n": 1})
    write_status_file(path, {"n": 2})
    files = [one for one in tmp_path.iterdir() if "status" in one.name]
    assert [one.name for one in files] == ["app.db-octodb.status"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert json.loads(files[0].read_text())["status"] == {"n": 2}


def test_no_room_for_it_is_no_error(tmp_path):
    write_status_file(str(tmp_path / "no such folder" / "app.db"), {"n": 1})


def test_removing_it_twice_is_harmless(path, lock):
    write_status_file(path, {"n": 1})
    remove_status_file(path)
    remove_status_file(path)
    assert read_status_file(path) is None


def test_who_only_looks_keeps_nobody_from_the_lock(path):
    """Programs that watch the status look many times a second; a primary that starts meanwhile must not be refused."""
    EngineLock(path).is_held_by_somebody()
    engine = EngineLock(path)
    assert engine.acquire()
    engine.release()
    stop = threading.Event()

    def look():
        while not stop.is_set():
            EngineLock(path).is_held_by_somebody()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            assert engine.acquire()
            engine.release()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_folder_that_is_not_there_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(octodb.OperationalError, match="cannot lock") as error:
        EngineLock(str(tmp_path / "none" / "app.db")).acquire()
    assert "mode=ro" in error.value.hint
