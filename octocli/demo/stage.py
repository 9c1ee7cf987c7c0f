"""The processes and files of a demonstration: a folder, a primary, devices; all gone at the end.

Every node is a process of its own and talks TCP; their files are read here by plain read-only connections.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from octocli.failure import Failure
from octocli.target import path_uri

__all__ = ["Device", "Stage", "program"]

STEP_S_MAX: Final = 20.0
LOOK_S: Final = 0.05
END_S_MAX: Final = 5.0
SAMPLE: Final = Path(__file__).parent.parent / "sample" / "music.sql"


def program(*arguments: str) -> list[str]:
    """The command line that runs this very program again."""
    return [sys.executable, "-m", "octocli", *arguments]


class Stage:
    """A context manager: on leaving it, by whatever way, its processes are ended and its folder removed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="octodb-demo-"))
        self.primary_file = self.folder / "primary.db"
        self.address = "tcp://127.0.0.1:0"
        self._primary: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            end_process(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_primary(self) -> str:
        """Start (or start again, at the same port) and return the address it listens on."""
        command = program(
            "--quiet",
            "serve",
            f"{path_uri(str(self.primary_file))}?node=primary&bind={self.address}",
            "--accounts",
            "--init",
            str(SAMPLE),
            "--stop-at-eof",
        )
        self._primary = self.spawn(command, stdout=subprocess.PIPE)
        assert self._primary.stdout is not None
        line = self._primary.stdout.readline().decode()
        if " listening on " not in line:
            raise Failure("the primary did not start", why=self.errors())
        self.address = line.rsplit(" ", 1)[1].strip()
        return self.address

    def stop_primary(self) -> int:
        """Stop it as an operator would (SIGTERM) and return its exit code."""
        assert self._primary is not None, "start_primary() comes first"
        self._primary.terminate()
        code = self._primary.wait(END_S_MAX)
        end_process(self._primary)
        return code

    def spawn(self, command: Sequence[str], *, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """A process of this stage. It lives in a session of its own, so Ctrl-C reaches us first."""
        with open(self.folder / "errors.txt", "ab") as errors:
            process = subprocess.Popen(  # noqa: S603 - this program itself
                command,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=errors,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """As ours, but with state (history, the last database) inside the folder."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OCTODB_")}
        # The folder of this package comes first, so that a checkout runs itself.
        paths = [str(Path(__file__).parent.parent.parent), inherited.get("PYTHONPATH", "")]
        return {
            **inherited,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }

    def run(self, *arguments: str, given: str = "") -> str:
        """Run one command of this program to its end and return what it printed. Raises Failure."""
        done = subprocess.run(  # noqa: S603 - this program itself
            program(*arguments),
            input=given.encode(),
            capture_output=True,
            cwd=self.folder,
            env=self.environment(),
            timeout=STEP_S_MAX * 2,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise Failure(
                f"octodb {arguments[0]} ended with {done.returncode}",
                why=done.stderr.decode(errors="replace").strip().replace("\n", "; "),
            )
        return done.stdout.decode()

    def device_uri(self, name: str) -> str:
        return f"{path_uri(str(self.folder / name))}.db?node=secondary&connect={self.address}"

    def read(self, file: Path, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a node's file as they are on disk, by a plain connection that cannot write or sync."""
        import octodb

        uri = f"{path_uri(str(file))}?mode=ro"
        with contextlib.closing(octodb.connect(uri, uri=True, isolation_level=None)) as conn:
            return [tuple(row) for row in conn.execute(sql).fetchall()]

    def status(self, name: str) -> dict[str, Any]:
        """What a third process says of a device (``octodb status --json``)."""
        status: dict[str, Any] = json.loads(self.run("status", str(self.folder / f"{name}.db"), "--json"))
        return status

    def published(self, name: str) -> dict[str, Any]:
        """The same, read by this process from what the device's process published."""
        import octodb

        return dict(octodb.read_status(str(self.folder / f"{name}.db")))

    def until(self, what: str, check: Callable[[], bool]) -> None:
        """Wait until ``check`` holds. Raises Failure naming ``what`` after STEP_S_MAX seconds."""
        import octodb

        end_s = time.monotonic() + STEP_S_MAX
        problem = ""
        while True:
            try:
                if check():
                    return
            except octodb.Error as error:  # the file or its table is not there yet
                problem = str(error)
            if time.monotonic() > end_s:
                raise Failure(what, why=problem or f"not so within {STEP_S_MAX:.0f} s", fix=self.errors())
            time.sleep(LOOK_S)

    def errors(self) -> str:
        """The end of what the background processes printed to stderr, as one line."""
        text = (self.folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip()
        return text.replace("\n", "; ")[-600:] or "nothing was printed"


class Device:
    """A device: a process that runs ``octodb connect URI -f -`` and is given SQL through a pipe."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.file = stage.folder / f"{name}.db"
        self._stage = stage
        self._process: subprocess.Popen[bytes] | None = None

    def sign_in(self, action: str, email: str, password: str) -> str:
        """Sign up or log in, download, and return the line that says who this device is."""
        data = json.dumps({"email": email, "password": password})
        return self._stage.run(action, self._stage.device_uri(self.name), "--data", "-", given=data).strip()

    def start(self) -> None:
        """Keep the device running, as an app would."""
        command = program("--quiet", "connect", self._stage.device_uri(self.name), "-f", "-")
        self._process = self._stage.spawn(command, stdout=subprocess.DEVNULL)

    def execute(self, sql: str) -> None:
        """Run one statement on the device; it is run when it arrives."""
        assert self._process is not None
        assert self._process.stdin is not None
        if self._process.poll() is not None:
            raise Failure(f"the {self.name} ended with {self._process.returncode}", why=self._stage.errors())
        self._process.stdin.write(sql.encode() + b";\n")
        self._process.stdin.flush()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._stage.read(self.file, sql)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End one process: its input first, then SIGTERM, then SIGKILL."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
