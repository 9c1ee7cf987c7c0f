"""Faults put into the product on purpose: each switches off one thing that a promise hangs on, and the simulator must
notice.

A mutation that no history notices shows that the simulator is blind there (design.md §13).
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import apsw

from octodb.log.embedded_log import EmbeddedLog, PushedBody
from octodb.model.identities import Role
from octodb.model.transactions import Op, Rejection, body_hash, decode_body, encode_body
from octodb.storage.device_store import DeviceCursor, DeviceStore, NotOurOwn
from octodb.storage.meta import LogTables
from octodb.storage.node_statements import NodeStatements
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.rebase import Rebase
from octodb.storage.row_keys import PendingKeys
from octodb.sync.primary import PrimarySession

__all__ = ["MUTATIONS", "mutated"]


def _dedupe():
    """A transaction that comes again takes effect again."""
    append_one = EmbeddedLog._append_one

    def again(self, request, pushed, batch):
        last = batch.last_nonce(request.node_id)
        if last is not None and pushed.body and pushed.nonce <= last:
            self._judge(request.user_id, pushed.body, request.node_id)
        return append_one(self, request, pushed, batch)

    return mock.patch.object(EmbeddedLog, "_append_one", again)


def _hash_check():
    """Another transaction under a number that was used before gets the verdict of the first, and nobody compares what
    the running hash says of it."""
    known, next_cursor = EmbeddedLog._known, DeviceStore._next_cursor

    def believed(self, node_id, pushed):
        verdict = self._tables.verdict(node_id, pushed.nonce)
        return known(self, node_id, pushed if verdict is None else PushedBody(pushed.nonce, verdict[0], pushed.body))

    def unchecked(self, now, incoming):
        try:
            return next_cursor(self, now, incoming)
        except NotOurOwn:
            chains = {entry.everybody: entry.chain for entry in incoming.entries}
            return DeviceCursor(
                now.epoch, incoming.through, chains.get(True, now.chain_all), chains.get(False, now.chain_user)
            )

    both = ExitStack()
    both.enter_context(mock.patch.object(EmbeddedLog, "_known", believed))
    both.enter_context(mock.patch.object(DeviceStore, "_next_cursor", unchecked))
    return both


def _undo_order():
    """The queue is undone oldest first."""

    def undo(self, nonces):
        for nonce in nonces:
            self._undo(self.row(nonce))

    return mock.patch.object(Rebase, "undo", undo)


def _owner_filter():
    """A device is sent the streams of other users too."""
    read_streams = LogTables.read_streams

    def read_all(self, owners, after, bytes_max):
        everybody = tuple(row[0] for row in self._db.execute("SELECT DISTINCT owner FROM _octodb_log"))
        return read_streams(self, everybody or owners, after, bytes_max)

    both = ExitStack()
    both.enter_context(mock.patch.object(LogTables, "read_streams", read_all))
    both.enter_context(mock.patch.object(PrimarySession, "_may_see", return_value=True))
    return both


def _outbox_atomicity():
    """A device's transaction is committed first and written down afterwards."""
    commit = NodeStatements._commit

    def commit_first(self):
        if self._role is Role.PRIMARY or not self._capture.active:
            commit(self)
            return
        ops = self._capture.collect()
        self._control.execute("COMMIT")
        number = None
        if ops:
            self._control.execute("BEGIN IMMEDIATE")
            number = self._recorder.record(ops)
            self._control.execute("COMMIT")
        self._committed(number)

    return mock.patch.object(NodeStatements, "_commit", commit_first)


def _clone_check():
    """A primary believes every session token."""
    open_session = PrimaryStore.open_session

    def believe(self, node_id, presented, token, info):
        return open_session(self, node_id, self._nodes.tokens(node_id)[0], token, info)

    return mock.patch.object(PrimaryStore, "open_session", believe)


def _direct_path():
    """Entries are applied beside the queue whatever rows it touches."""
    return mock.patch.object(PendingKeys, "meet", return_value=False)


def _body_rewrite():
    """What is sent is what redo came to, not what the application did."""
    redo = Rebase._redo

    def rewrite(self, row):
        redo(self, row)
        now = self._outbox.get(row.nonce)
        if now.undo:
            body = encode_body(decode_body(row.body).schema_seq, [Op(0, now.undo)])
            self._outbox.set_body(row.nonce, body, body_hash(body))

    return mock.patch.object(Rebase, "_redo", rewrite)


def _full_is_rejection():
    """A transaction for which the primary's disk has no room is rejected."""
    judge = EmbeddedLog._judge

    def reject(self, user_id, data, node_id):
        try:
            return judge(self, user_id, data, node_id)
        except apsw.FullError as error:
            return Rejection("constraint", str(error))

    return mock.patch.object(EmbeddedLog, "_judge", reject)


MUTATIONS = {
    "dedupe": _dedupe,
    "hash-check": _hash_check,
    "undo-order": _undo_order,
    "owner-filter": _owner_filter,
    "outbox-atomicity": _outbox_atomicity,
    "clone-check": _clone_check,
    "direct-path": _direct_path,
    "body-rewrite": _body_rewrite,
    "full-is-rejection": _full_is_rejection,
}


@contextmanager
def mutated(name):
    """Run with the fault ``name`` in the product; None: without."""
    if name is None:
        yield
        return
    with MUTATIONS[name]():
        yield
