"""What goes wrong in a history: lines, processes, disks, and people who copy and restore files.

Each fault is a method that takes nothing; ``FAULTS`` gives their weights. A history's counts show that each of them
happens.
"""

import os

import apsw

from octodb.storage.meta import Meta, NodeTable
from tests.simulation.nodes import SimDevice

__all__ = ["Faults"]

_DEVICES_MAX = 6
_DAY_S = 86400.0


class Faults:
    """The faults of one history."""

    def __init__(self, history):
        self._history = history
        self._random = history.random
        self._device_backups = []  # (device, path, what it had committed, cursor)
        self._primary_backup = None  # path, identity counter

    def steps(self):
        """(weight, step)"""
        return [
            (4, self.break_a_line),
            (2, self.part_somebody),
            (2, self.slow_network),
            (2, self.slow_disk),
            (4, self.kill_somebody),
            (4, self.kill_in_the_middle),
            (2, self.cut_the_power),
            (8, self.start_somebody),
            (3, self.fill_a_disk),
            (1, self.damage_a_row),
            (1, self.copy_a_device),
            (1, self.back_up_a_device),
            (1, self.restore_a_device),
            (1, self.back_up_the_primary),
            (0.5, self.restore_the_primary),
            (1, self.cut_the_log),
            (0.15, self.revoke_a_device),
            (0.3, self.ninety_days_pass),
        ]

    def _say(self, count, text):
        self._history.count(count)
        self._history.say(text)

    # --- lines ---------------------------------------------------------------------------------------

    def break_a_line(self):
        network = self._history.network
        links = network.live_links()
        if links and network.cut(self._random.choice(links)):
            self._say("line cut", "a line breaks")

    def lose_answers(self):
        """The primary has just committed, and nobody hears of it."""
        for link in self._history.network.live_links():
            self._history.network.cut(link)
        self._say("cut after a commit", "every line breaks right after a commit")

    def part_somebody(self):
        device = self._random.choice(self._history.devices)
        duration_s = self._random.choice((1.0, 15.0, 60.0))
        self._history.network.part(device, self._history.primary, duration_s)
        self._say("partition", f"{device} and the primary are apart for {duration_s} s")

    def slow_network(self):
        self._history.network.slow_until = self._history.loop.now + self._random.choice((1.0, 10.0))
        self._history.count("slow network")

    # --- processes and disks -------------------------------------------------------------------------

    def slow_disk(self):
        node = self._random.choice(self._history.nodes)
        node.slow_until = self._history.loop.now + self._random.choice((1.0, 30.0))
        self._say(f"slow {node.role}", f"{node} has a slow disk")

    def kill_somebody(self):
        node = self._random.choice(self._history.nodes)
        if node.up:
            node.crash()
            self._history.count(f"{node.role} killed")

    def kill_in_the_middle(self):
        node = self._random.choice(self._history.nodes)
        if node.up:
            node.crash_within(self._random.choice((0, 1, 2, 3, 5, 8, 13, 30, 80)))
            self._history.count(f"{node.role} killed at a statement")

    def cut_the_power(self):
        node = self._random.choice(self._history.nodes)
        if node.up:
            node.lose_power()
            self._say(f"power cut of a {node.role}", f"the power of {node} is cut")
            if node.role == "secondary":
                self._history.checks.power_was_cut(node)

    def start_somebody(self):
        down = [node for node in self._history.nodes if not node.up]
        if down:
            self._history.start(self._random.choice(down))

    def fill_a_disk(self):
        node = self._random.choice((self._history.primary, self._random.choice(self._history.devices)))
        if node.up and not node.pages_max:
            node.fill_disk()
            self._say(f"disk of a {node.role} full", f"the disk of {node} is full")
            self._history.loop.call_later(self._random.choice((0.5, 20.0)), node.empty_disk)

    def damage_a_row(self):
        """Bits rot, or somebody writes to a device's file with another tool."""
        device = self._ready_device()
        if device is None:
            return
        table = self._random.choice(("item", "part", "word", "tally"))
        change = self._random.choice((f"DELETE FROM {table}", f"UPDATE {table} SET mark = mark || '!'"))
        if device.damage(f"{change} WHERE row_owner IS NOT NULL"):
            self._say("rows damaged", f"{device}: {change} behind everybody's back")

    def ninety_days_pass(self):
        """Everything is switched off meanwhile, and the log keeps thirty days."""
        for node in self._history.nodes:
            if node.up:
                node.crash()
        self._history.loop.now += 90 * _DAY_S
        self._say("ninety days passed", "ninety days pass")
        self._history.start(self._history.primary)
        self._cut(keep_s=30 * _DAY_S, keep_entries=0)

    # --- people --------------------------------------------------------------------------------------

    def _ready_device(self):
        ready = [device for device in self._history.devices if device.up and device.is_ready()]
        return self._random.choice(ready) if ready else None

    def copy_a_device(self):
        original = self._ready_device()
        if original is None or len(self._history.devices) >= _DEVICES_MAX:
            return
        device = SimDevice(self._history, f"copy{len(self._history.devices)}", original.user_id, self._history.primary)
        original.copy_files(device.path)
        device.committed_bodies = dict(original.committed_bodies)
        device.seen_cursor, device.newest_nonce = original.seen_cursor, original.newest_nonce
        device.damaged = original.damaged
        device.former_ids, device.settled_before = set(original.former_ids), set(original.settled_before)
        # usually the other place shows; a copy of a whole machine looks the same
        device.whereabouts = device.name if self._random.random() < 0.7 else original.whereabouts
        self._history.add_device(device)
        self._say("device file copied", f"{original}'s file is copied: {device}")
        self._history.start(device)

    def back_up_a_device(self):
        device = self._ready_device()
        if device is None:
            return
        path = f"{self._history.folder}/backup{len(self._device_backups)}"
        os.mkdir(path)
        device.copy_files(f"{path}/app.db")
        backup = (device, f"{path}/app.db", dict(device.committed_bodies), device.seen_cursor, device.newest_nonce)
        self._device_backups.append(backup)
        self._history.say(f"{device} is backed up")

    def restore_a_device(self):
        if not self._device_backups:
            return
        device, path, committed, cursor, newest = self._random.choice(self._device_backups)
        if device.up:
            device.crash()
        device.replace_file(path)
        device.committed_bodies, device.seen_cursor, device.newest_nonce = dict(committed), cursor, newest
        device.was_restored = True
        if self._random.random() < 0.5:
            device.whereabouts += "'"
        self._say("device restored from a backup", f"{device} is restored from a backup")

    def back_up_the_primary(self):
        path = f"{self._history.folder}/primary-backup{self._history.random.random()}"
        os.mkdir(path)
        primary = self._history.primary
        primary.copy_files(f"{path}/app.db")
        self._primary_backup = f"{path}/app.db"
        self._history.say("the primary is backed up")

    def restore_the_primary(self):
        """As `octodb restore` does it, or by copying the file back, which loses track of ids given since."""
        if self._primary_backup is None:
            return
        history, primary = self._history, self._history.primary
        given = self._identity_counter(primary.path)
        if primary.up:
            primary.crash()
        primary.replace_file(self._primary_backup)
        if self._identity_counter(primary.path) == given and self._random.random() < 0.5:
            self._say("primary's file copied back", "the primary's file is copied back from a backup")
        else:
            self._new_epoch(primary.path)
            self._say("primary restored", "the primary is restored from a backup")
        history.checks.log_was_restored(primary.path)
        for device in history.devices:
            device.seen_cursor = 0

    def _identity_counter(self, path):
        with apsw.Connection(path) as db:
            return Meta(db).get("identity_counter")

    def _new_epoch(self, path):
        db = apsw.Connection(path)
        with db:
            meta = Meta(db)
            meta.set(epoch=self._random.randbytes(16), identity_counter=meta.get("identity_counter") + 1000)
            NodeTable(db).forget_tokens()
        db.close()

    def cut_the_log(self):
        if self._history.primary.up:
            self._cut(keep_s=1e9, keep_entries=self._random.choice((1, 5, 20)))

    def _cut(self, keep_s, keep_entries):
        self._history.checks.archive_log()
        if self._history.primary.cut_log(keep_s, keep_entries):
            self._say("log cut", "the log is cut")

    def revoke_a_device(self):
        device = self._ready_device()
        primary = self._history.primary
        if device is not None and primary.up and not device.is_revoked() and primary.revoke(device.public_key()):
            self._say("device revoked", f"{device} is revoked")

    def end(self):
        for node in self._history.nodes:
            node.empty_disk()
            node.slow_until = 0.0
