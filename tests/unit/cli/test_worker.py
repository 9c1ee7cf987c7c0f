"""Statements on their own thread: results, errors, and Ctrl-C that stops them at once."""

import os
import signal
import sqlite3
import threading
import time

import pytest

from octocli.shell.worker import Interrupted, Worker

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def conn():
    conn = sqlite3.connect(":memory:", check_same_thread=False)
    yield conn
    conn.close()


@pytest.fixture
def worker(conn):
    worker = Worker(conn.interrupt)
    yield worker
    worker.close()


def press_ctrl_c_when(condition):
    """From another thread, as a terminal would, once ``condition()`` holds."""

    def press():
        while not condition():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_results_and_errors_come_back(worker, conn):
    assert worker.run(lambda: conn.execute("SELECT 42").fetchone()) == (42,)
    with pytest.raises(sqlite3.OperationalError):
        worker.run(lambda: conn.execute("nonsense"))


def test_work_runs_on_another_thread(worker):
    assert worker.run(threading.get_ident) != threading.get_ident()


def test_ctrl_c_stops_a_statement_within_100_ms(worker, conn):
    started = threading.Event()
    times = []
    conn.create_function("mark", 0, lambda: started.set() or 1)

    def work():
        return conn.execute("SELECT mark(), n FROM (" + ENDLESS.replace("count(*)", "count(*) AS n") + ")").fetchone()

    conn.set_progress_handler(lambda: started.set() or 0, 1000)
    presser = press_ctrl_c_when(lambda: started.is_set() and (times.append(time.perf_counter()) or True))
    with pytest.raises(Interrupted):
        worker.run(work)
    # The promise is 100 ms; a machine under test load gets some more.
    assert time.perf_counter() - times[-1] < 1.0
    presser.join()


def test_an_interrupt_before_sqlite_has_begun_is_not_lost(worker, conn):
    waiting = threading.Event()
    pressed = threading.Event()

    def work():
        waiting.set()
        assert pressed.wait(5)  # Ctrl-C has come, and SQLite runs nothing yet
        return conn.execute(ENDLESS).fetchone()

    def press():
        assert waiting.wait(5)
        os.kill(os.getpid(), signal.SIGINT)
        pressed.set()

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(Interrupted):
        worker.run(work)
    thread.join()


def test_work_between_statements_sees_it_too(worker):
    running = threading.Event()

    def work():
        while True:
            running.set()
            worker.check()

    presser = press_ctrl_c_when(running.is_set)
    with pytest.raises(Interrupted):
        worker.run(work)
    presser.join()


def test_after_an_interrupt_the_next_statement_runs(worker, conn):
    test_work_between_statements_sees_it_too(worker)
    assert worker.run(lambda: conn.execute("SELECT 1").fetchone()) == (1,)


def test_the_signal_handler_is_put_back(worker):
    before = signal.getsignal(signal.SIGINT)
    worker.run(lambda: None)
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_of_started_work_trouble_nobody(worker):
    worker.start(lambda: 1 / 0)
    assert worker.run(lambda: 3) == 3
