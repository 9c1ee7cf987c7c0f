"""The full-screen dashboard: keys, resizing and the clock around the pure drawing.

Draws on change or resize, at most four times a second; the status is read on a thread, never by the screen.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from octocli.dashboard.history import History
from octocli.dashboard.render import PANELS, Line, View, render
from octocli.dashboard.source import StatusSource
from octocli.feed import Status
from octocli.target import Target
from octocli.terminal import Terminal

if TYPE_CHECKING:
    from prompt_toolkit import Application
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyBindings

__all__ = ["Dashboard"]

INTERVAL_S_MIN: Final = 0.25


class Dashboard:
    """One watched node. ``run`` returns when the person quits or ``count`` looks were shown."""

    def __init__(
        self, source: StatusSource, target: Target, terminal: Terminal, interval_s: float, count: int | None
    ) -> None:
        self._source = source
        self._target = target
        self._terminal = terminal
        self._interval_s = max(INTERVAL_S_MIN, interval_s)
        self._left = count
        self._history = History()
        self._status: Status = {}
        self._panel = 0
        self._paused = False
        self._help = False
        self._reconnect = False
        self._shown_s = 0.0

    def run(self) -> None:
        """Show it until ``q`` or Ctrl-C."""
        self._look()
        self._application().run()

    def lines(self, width: int, height: int) -> list[Line]:
        """The screen as it is now."""
        view = View(
            width=width,
            height=height,
            unicode=self._terminal.unicode,
            panel=PANELS[self._panel],
            paused=self._paused,
            help=self._help,
        )
        return render(
            self._status,
            self._history,
            view,
            name=self._target.name,
            connect=self._target.connect,
            now_s=self._shown_s,
        )

    def _application(self) -> Application[None]:
        from prompt_toolkit import Application
        from prompt_toolkit.layout import Layout, Window
        from prompt_toolkit.layout.controls import FormattedTextControl
        from prompt_toolkit.output import ColorDepth

        def text() -> StyleAndTextTuples:
            size = application.output.get_size()
            lines = self.lines(size.columns, size.rows)
            return [part for line in lines for part in [*line, ("", "\n")]]

        application: Application[None] = Application(
            layout=Layout(Window(FormattedTextControl(text), wrap_lines=False)),
            key_bindings=self._keys(),
            full_screen=True,
            color_depth=None if self._terminal.colour else ColorDepth.DEPTH_1_BIT,
        )

        def start() -> None:
            application.create_background_task(self._follow(application))

        application.pre_run_callables.append(start)
        return application

    async def _follow(self, application: Application[None]) -> None:
        shown: list[Line] = []
        while self._left is None or self._left > 0:
            await asyncio.sleep(self._interval_s)
            await asyncio.get_running_loop().run_in_executor(None, self._look)
            size = application.output.get_size()
            lines = self.lines(size.columns, size.rows)
            if lines != shown:
                shown = lines
                application.invalidate()
        application.exit()

    def _look(self) -> None:
        if self._reconnect:
            self._reconnect = False
            self._source.reconnect()
        if self._paused:
            return
        if self._left is not None:
            self._left -= 1
        self._shown_s = time.monotonic()
        self._status = self._source.read()
        self._history.observe(self._status, self._shown_s, time.strftime("%H:%M:%S"))

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        keys = KeyBindings()

        @keys.add("q")
        @keys.add("c-c")
        @keys.add("c-d")
        def _(event: KeyPressEvent) -> None:
            event.app.exit()

        @keys.add("p")
        def _(_event: KeyPressEvent) -> None:
            self._paused = not self._paused

        @keys.add("r")
        def _(_event: KeyPressEvent) -> None:
            self._reconnect = True

        @keys.add("tab")
        def _(_event: KeyPressEvent) -> None:
            self._panel = (self._panel + 1) % len(PANELS)

        @keys.add("?")
        def _(_event: KeyPressEvent) -> None:
            self._help = not self._help

        return keys
