"""The interactive loop: reads statements at the prompt, runs them, and leaves when told to.

Ctrl-C clears or stops and never leaves. Everything about a statement itself is ShellSession's.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import has_completions, is_done
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from octocli.failure import Failure
from octocli.feed import Status, StatusFeed
from octocli.progress import in_sync, wait_synced
from octocli.shell.catalogue import read_catalogue
from octocli.shell.completer import SqlCompleter
from octocli.shell.dotcommands import COMMANDS
from octocli.shell.highlight import STYLE, SqlLexer
from octocli.shell.history import SafeHistory, history_file
from octocli.shell.prompt import continuation_text, prompt_text, toolbar_text
from octocli.shell.session import LeaveShell, ShellSession, is_complete
from octocli.shell.worker import Interrupted
from octocli.sqltext import is_blank, is_dot_command
from octocli.target import state_folder

if TYPE_CHECKING:
    from prompt_toolkit.history import History

__all__ = ["Loop", "run_loop"]

REFRESH_S: Final = 0.5
LOOK_S: Final = 0.2
ANSWER_S: Final = 1.0
MENU_ROWS: Final = 8
FRAME_ROWS: Final = 4  # the toolbar and a few lines of a statement


def run_loop(session: ShellSession) -> None:
    """The shell on a terminal, until Ctrl-D or ``.quit``."""
    loop = Loop(session, SafeHistory(str(history_file(state_folder(), session.target.path))))
    session.terminal.say(f"{session.target.name}: statements end with ; · .help lists commands · Ctrl-D leaves")
    loop.run()


class Loop:
    """One prompt session over one ShellSession."""

    def __init__(self, session: ShellSession, history: History | None = None) -> None:
        import octodb

        self._session = session
        self._looked: tuple[float, Status] | None = None
        self._stop_asked = False
        self._completer = SqlCompleter(octodb.keywords, COMMANDS)
        terminal = session.terminal
        self._prompt: PromptSession[str] = PromptSession(
            self._message,
            multiline=True,
            key_bindings=self._keys(),
            history=history,
            auto_suggest=AutoSuggestFromHistory(),
            lexer=SqlLexer(octodb.keywords) if terminal.colour else None,
            style=STYLE,
            color_depth=None if terminal.colour else ColorDepth.DEPTH_1_BIT,
            completer=self._completer,
            complete_while_typing=True,
            prompt_continuation=self._continuation,
            bottom_toolbar=self._toolbar if session.feed is not None else None,
            refresh_interval=REFRESH_S if session.feed is not None else 0,
            enable_open_in_editor=False,
        )
        self._prompt.app.before_render += lambda app: self._leave_room(app.output.get_size().rows)
        if session.feed is not None:
            session.conn.on("status", self._redraw)
            session.conn.on("rejected", self._tell_rejected)

    def run(self) -> None:
        """Prompt and run until the person leaves."""
        self._refresh_catalogue()
        with _ctrl_c(self._ask_to_stop):
            while not self._turn():
                continue

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGINT outside of statements. A prompt reads Ctrl-C as a key: the signal comes as one starts or ends.

        Raised there, it would cut prompt_toolkit's work in two (an exit of what is not running, waits that
        never end) or end the shell, which Ctrl-C must never do. So it is remembered for what was submitted.
        """
        self._stop_asked = True

    def _submit(self, buffer: Buffer) -> None:
        self._stop_asked = False
        buffer.validate_and_handle()

    def _turn(self) -> bool:
        """One prompt and what it brings. Returns whether the person leaves."""
        try:
            with patch_stdout(raw=True):
                text = self._prompt.prompt(handle_sigint=False)
            self._run(text)
        except KeyboardInterrupt:
            return False
        except (EOFError, LeaveShell):
            return self._may_leave()
        return False

    def _leave_room(self, rows: int) -> None:
        """Room for completions below the prompt, but only where the screen has it: else nothing would be drawn."""
        self._prompt.reserve_space_for_menu = max(0, min(MENU_ROWS, rows - FRAME_ROWS))

    def submits(self, text: str) -> bool:
        """Whether Enter runs ``text`` rather than starting a new line in it."""
        if is_blank(text) or (is_dot_command(text) and "\n" not in text.strip()):
            return True
        return is_complete(text)

    def _run(self, text: str) -> None:
        """Run every statement of ``text``; the first error ends it."""
        splitter = self._session.splitter()
        try:
            with _ctrl_c(signal.default_int_handler):
                for piece in [*splitter.feed(text), *splitter.finish()]:
                    if self._stop_asked:
                        raise Interrupted
                    self._session.run_piece(piece)
        except (Interrupted, KeyboardInterrupt, _abort_type()):
            self._session.terminal.complain("interrupted")
        except Failure as failure:
            self._session.terminal.complain("\n".join(failure.lines()))
        self._refresh_catalogue()

    def _may_leave(self) -> bool:
        """Ask what to do with an open transaction; say that unsent ones are safe."""
        session = self._session
        if session.conn.in_transaction:
            answer = self._ask("a transaction is open: [c]ommit, [r]ollback or [s]tay? ", "crs")
            if answer not in {"c", "r"}:
                return False
            try:
                session.worker.run(lambda: session.conn.execute("COMMIT" if answer == "c" else "ROLLBACK"))
            except Exception as error:  # noqa: BLE001 - whatever it is, the person must see it and stay
                session.terminal.complain(f"error: {error}")
                return False
        if session.feed is not None and session.target.role == "secondary":
            self._offer_to_wait(session.feed)
        return True

    def _offer_to_wait(self, feed: StatusFeed) -> None:
        status = feed.now()
        if status.get("connected"):
            # The last COMMIT may be a moment old: its answer is on the way, no reason to ask anybody.
            feed.wait(in_sync, patience_s=ANSWER_S)
            status = feed.now()
        pending = (status.get("transactions") or {}).get("pending")
        if not pending:
            return
        self._session.terminal.say(f"{pending} not sent yet; safe in the file, sent when it is next open")
        if self._ask("wait until they are sent? [y/N] ", "yn") != "y":
            return
        with contextlib.suppress(KeyboardInterrupt, Failure), _ctrl_c(signal.default_int_handler):
            wait_synced(feed, self._session.terminal, patience_s=None)

    def _ask(self, question: str, letters: str) -> str:
        """One letter of ``letters``, or '' for anything else, Ctrl-C and Ctrl-D."""
        try:
            asker: PromptSession[str] = PromptSession()
            answer = asker.prompt(question, handle_sigint=False).strip().lower()[:1]
        except (KeyboardInterrupt, EOFError):
            return ""
        return answer if answer and answer in letters else ""

    def _refresh_catalogue(self) -> None:
        """Read table names on the worker's thread, behind whatever runs; typing never waits for it."""

        def work() -> None:
            self._completer.catalogue = read_catalogue(self._session.conn, self._completer.catalogue)

        self._session.worker.start(work)

    def _status(self) -> Status | None:
        """A look at most LOOK_S old: it is wanted at every key, and may read the file."""
        if self._session.feed is None:
            return None
        now_s = time.monotonic()
        if self._looked is None or now_s - self._looked[0] > LOOK_S:
            self._looked = (now_s, self._session.feed.now())
        return self._looked[1]

    def _message(self) -> AnyFormattedText:
        session = self._session
        return prompt_text(session.target.name, self._status(), session.conn.in_transaction, session.terminal)

    def _continuation(self, width: int, line: int, _soft_wrap: int) -> AnyFormattedText:
        splitter = self._session.splitter()
        above = "\n".join(self._prompt.default_buffer.text.split("\n")[:line])
        for _piece in splitter.feed(above + "\n"):
            pass  # only what is left open after the last piece matters
        return continuation_text(splitter.open_delimiter, width)

    def _toolbar(self) -> AnyFormattedText:
        status = self._status()
        return "" if status is None else toolbar_text(status, self._session.terminal)

    def _redraw(self, _info: dict[str, Any]) -> None:
        self._looked = None
        if self._prompt.app.is_running:
            self._prompt.app.invalidate()

    def _tell_rejected(self, info: dict[str, Any]) -> None:
        """From a worker thread: shown above the prompt, without disturbing what is being typed."""
        reason = info.get("reason") or info.get("code") or "the primary gave no reason"
        number = info.get("nonce", "")
        sys.stdout.write(f"rejected: transaction {number}: {reason}\n")
        sys.stdout.flush()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter", filter=~is_done & ~has_completions)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if self.submits(buffer.text):
                self._submit(buffer)
            else:
                buffer.newline()

        @keys.add("enter", filter=~is_done & has_completions)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            chosen = buffer.complete_state is not None and buffer.complete_state.current_completion
            buffer.cancel_completion() if not chosen else buffer.apply_completion(chosen)
            if not chosen and self.submits(buffer.text):
                self._submit(buffer)
            elif not chosen:
                buffer.newline()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            self._submit(event.current_buffer)

        return keys


@contextlib.contextmanager
def _ctrl_c(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within, SIGINT calls ``handler``."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _abort_type() -> type[BaseException]:
    import click

    return click.Abort
