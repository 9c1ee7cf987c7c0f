"""Real input: the Chinook catalogue with owners added, three users, four devices.

The file is not part of this repository; set OCTODB_CHINOOK to its path where it lies elsewhere.
"""

import os
import pathlib

import pytest

import octodb
from tests.integration.conftest import rows, wait_for

GLOBAL = ("Album", "Artist", "Employee", "Genre", "MediaType", "Playlist", "PlaylistTrack", "Track")
OWNED = ("Customer", "Invoice", "InvoiceLine")


def chinook_sql():
    here = pathlib.Path(__file__).resolve()
    places = [os.environ.get("OCTODB_CHINOOK", ""), *(parent / "shared/data/chinook.sql" for parent in here.parents)]
    for place in filter(None, places):
        if pathlib.Path(place).is_file():
            return pathlib.Path(place).read_text(encoding="utf-8-sig")
    pytest.skip("chinook.sql is not on this machine (set OCTODB_CHINOOK to its path)")
    return None


@pytest.fixture
def shop(world):
    """A primary with Chinook, whose customers belong to ada, ben and cleo in turn; and their devices.

    The script numbers its rows 1, 2, 3… and refers to them so, which is how it runs while its tables have no owners:
    they are added afterwards, as one would to a database that exists.
    """
    sql = chinook_sql()
    assert sql is not None
    primary = world.primary(accounts=True)
    primary.executescript(sql)
    devices = {name: world.device(name, user=name) for name in ("ada", "ben", "cleo")}
    users = [device.sync_status["user_id"] for device in devices.values()]
    for table in GLOBAL + OWNED:
        primary.execute(f"ALTER TABLE {table} ADD COLUMN row_owner")
    for table in GLOBAL:
        primary.execute(f"UPDATE {table} SET row_owner = '*'")
    of_customer = f"CASE CustomerId % 3 WHEN 0 THEN {users[0]} WHEN 1 THEN {users[1]} ELSE {users[2]} END"
    primary.execute(f"UPDATE Customer SET row_owner = {of_customer}")
    primary.execute(f"UPDATE Invoice SET row_owner = {of_customer}")
    primary.execute(
        "UPDATE InvoiceLine SET row_owner = i.row_owner FROM Invoice i WHERE i.InvoiceId = InvoiceLine.InvoiceId"
    )
    primary.commit()
    return primary, devices


def assert_same_rows(primary, device):
    user = device.sync_status["user_id"]
    for table in GLOBAL + OWNED:
        expected = rows(primary, f"SELECT * FROM {table} WHERE row_owner IN ('*', ?)", user)
        assert rows(device, f"SELECT * FROM {table}") == expected, table


def test_three_users_hold_the_catalogue_and_their_own(shop, world):
    primary, devices = shop
    for device in devices.values():
        assert device.wait_synced(30)
        assert_same_rows(primary, device)
        assert device.execute("SELECT count(*) FROM Track").fetchone()[0] == 3503
        assert device.execute("SELECT count(*) FROM Customer").fetchone()[0] in {19, 20}
    # one who comes later downloads the same in one go
    late = world.device("late", user="ada")
    assert late.wait_synced(30)
    assert_same_rows(primary, late)


def test_a_playlist_reaches_the_same_users_devices_and_nobody_else(shop, world):
    primary, devices = shop
    second = world.device("second", user="ada")
    ada = devices["ada"]
    playlist = ada.execute("INSERT INTO Playlist (Name) VALUES ('Evening')").lastrowid
    ada.executemany("INSERT INTO PlaylistTrack (PlaylistId, TrackId) VALUES (?, ?)", [(playlist, n) for n in (1, 2, 3)])
    ada.commit()
    count = "SELECT count(*) FROM PlaylistTrack WHERE PlaylistId = ?"
    wait_for(lambda: second.execute(count, (playlist,)).fetchone()[0] == 3)
    assert second.execute("SELECT Name FROM Playlist WHERE PlaylistId = ?", (playlist,)).fetchone() == ("Evening",)
    for name in ("ben", "cleo"):
        assert devices[name].wait_synced(30)
        assert devices[name].execute(count, (playlist,)).fetchone()[0] == 0
        assert_same_rows(primary, devices[name])
    assert_same_rows(primary, second)


@pytest.mark.parametrize("way", ["restored", "copied back"])
def test_the_shop_survives_that_its_primary_is_put_back_to_yesterday(shop, world, way):
    """Nothing is silently different afterwards, and what only the backup's clerks did is all that is lost."""
    primary, devices = shop
    for device in devices.values():
        assert device.wait_synced(30)
    path, backup = f"{world.folder}/primary.db", f"{world.folder}/yesterday.db"
    octodb.backup(path, backup)
    ada, ben, cleo = devices.values()
    playlist = ada.execute("INSERT INTO Playlist (Name) VALUES ('Evening')").lastrowid
    ada.executemany("INSERT INTO PlaylistTrack (PlaylistId, TrackId) VALUES (?, ?)", [(playlist, n) for n in (1, 2, 3)])
    ada.execute("UPDATE Customer SET Phone = 'ada was here'")
    ada.commit()
    primary.execute("UPDATE Track SET UnitPrice = 5 WHERE TrackId = 1")
    primary.execute("ALTER TABLE Genre ADD COLUMN Mood TEXT")
    primary.commit()
    for device in devices.values():
        assert device.wait_synced(30)
    port = int(world.address.rsplit(":", 1)[1])
    world.close(*[one for one in world.open if one not in devices.values()])
    ben.execute("UPDATE Customer SET Phone = 'ben was offline'")
    ben.commit()
    if way == "restored":
        octodb.restore(backup, path, force=True)
    else:
        for suffix in ("", "-wal", "-shm"):
            pathlib.Path(path + suffix).unlink(missing_ok=True)
        pathlib.Path(path).write_bytes(pathlib.Path(backup).read_bytes())
    told = []
    ada.on("error", told.append)
    primary = world.primary(accounts=True, port=port)
    primary.execute("UPDATE Album SET Title = 'New history' WHERE AlbumId = 1")
    primary.commit()
    for device in (ada, ben, cleo):
        assert device.wait_synced(60), device.sync_status
        assert device.execute("PRAGMA sync_check(30)").fetchone() == ("ok",)
        assert_same_rows(primary, device)
        assert len(rows(device, "SELECT * FROM pragma_table_info('Genre')")) == 3, "the schema went back too"
        assert rows(device, "PRAGMA rejected_transactions") == []
    assert rows(primary, "SELECT Name FROM Playlist WHERE PlaylistId = ?", playlist) == [("Evening",)]
    count = "SELECT count(*) FROM Customer WHERE Phone = ?"
    assert rows(primary, count, "ada was here")[0][0] in {19, 20}
    assert rows(primary, count, "ben was offline")[0][0] in {19, 20}
    assert [info["code"] for info in told if info["code"] == "restored"] == ["restored"]
