"""Processes that are killed: nothing is lost, nothing happens twice (P1, P2)."""

import pytest

import octodb
from tests.integration.conftest import free_port, until_line, wait_for
from tests.integration.dosing_proxy import DosingProxy

PRIMARY = """
import sys, octodb
primary = octodb.connect(sys.argv[1])
primary.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, marker TEXT, filler, row_owner)")
primary.commit()
if "auth=user" in sys.argv[1]:
    accounts = octodb.Accounts(primary)
    try:
        accounts.add("ada@example.org", "password of ada")
    except octodb.IntegrityError:
        pass  # it was started before
print("up")
sys.stdin.read()
"""

WRITER = """
import sys, octodb
device = octodb.connect(sys.argv[1])
login = '{"email": "ada@example.org", "password": "password of ada"}'
device.execute(f"PRAGMA user_login='{login}'")
device.wait_ready(20)
print("ready")
for n in range(int(sys.argv[2]), int(sys.argv[3])):
    device.execute("INSERT INTO t (marker, filler) VALUES (?, randomblob(2000))", (f"m{n}",))
    device.commit()
    print("wrote", n)
print("synced", device.wait_synced(30))
sys.stdin.read()
"""

COUNTS = "SELECT count(*), count(DISTINCT marker), count(DISTINCT id) FROM t"


@pytest.fixture
def proxy():
    """Lets a quarter of the thousand transactions through: the kill comes in mid-push, and in mid-message."""
    proxy = DosingProxy(free_port(), free_port(), dose_bytes=600_000)
    yield proxy
    proxy.close()


def test_a_thousand_transactions_survive_kills_on_both_sides(programs, tmp_path, world, proxy):
    primary_uri = f"file:{tmp_path}/primary.db?node=primary&bind=tcp://127.0.0.1:{proxy.server_port}&auth=user"
    device_uri = f"file:{tmp_path}/device.db?node=secondary&connect=tcp://127.0.0.1:{proxy.server_port}"
    proxied_uri = f"file:{tmp_path}/device.db?node=secondary&connect=tcp://127.0.0.1:{proxy.port}"

    def start_primary():
        process = programs.start(PRIMARY, primary_uri)
        until_line(process, "up")
        return process

    def kill(process):
        process.kill()
        process.wait()

    primary = start_primary()
    writer = programs.start(WRITER, device_uri, 0, 0)
    until_line(writer, "ready")
    kill(writer)
    kill(primary)

    # 1,000 transactions with the primary down; the device is killed in the middle of them
    writer = programs.start(WRITER, device_uri, 0, 1000)
    until_line(writer, "wrote 400")
    kill(writer)
    written = octodb.read_status(f"{tmp_path}/device.db")["transactions"]["last_nonce"]
    assert 401 <= written < 1000
    writer = programs.start(WRITER, proxied_uri, written, 1000)
    until_line(writer, "wrote 999")
    assert octodb.read_status(f"{tmp_path}/device.db")["transactions"]["pending"] == 1000

    # the primary is killed while they arrive
    reader = octodb.connect(f"file:{tmp_path}/primary.db?mode=ro", uri=True)
    count = lambda: reader.execute("SELECT count(*) FROM t").fetchone()[0]  # noqa: E731 - asked many times
    primary = start_primary()
    proxy.start()
    wait_for(lambda: count() > 0, 30)
    kill(primary)
    arrived = count()
    assert 0 < arrived < 1000
    assert octodb.read_status(f"{tmp_path}/device.db")["transactions"]["pending"] > 0

    proxy.release()
    primary = start_primary()
    assert until_line(writer, "synced") == "synced True"
    assert reader.execute(COUNTS).fetchone() == (1000, 1000, 1000)
    status = octodb.read_status(f"{tmp_path}/device.db")
    assert (status["transactions"]["pending"], status["transactions"]["rejected"]) == (0, 0)
    device = octodb.connect(f"file:{tmp_path}/device.db?mode=ro", uri=True)
    assert device.execute(COUNTS).fetchone() == (1000, 1000, 1000)
    device.close()
    reader.close()
    second = world.device("second", user="ada", connect=f"tcp://127.0.0.1:{proxy.server_port}")
    assert second.wait_synced(15), second.sync_status
    assert second.execute(COUNTS).fetchone() == (1000, 1000, 1000)
