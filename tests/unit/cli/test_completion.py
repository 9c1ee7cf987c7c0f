"""completions/ is what the program would write today, and each shell that is installed accepts it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from octocli.completion import SHELLS, completion_script
from octocli.main import cli

FOLDER = Path(__file__).parents[3] / "completions"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_committed_file_is_current(shell):
    written = (FOLDER / f"octodb.{shell}").read_text(encoding="utf-8")
    assert written == completion_script(shell, cli), f"run: octodb completion {shell} > completions/octodb.{shell}"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_can_read_it(shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "-n", str(FOLDER / f"octodb.{shell}")], check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["octodb", "sta"], ["status"]),
        (["octodb", "connect", "--wai"], ["--wait"]),
        (["octodb", "connect", "--wait", ""], ["ready", "synced", "none"]),
        (["octodb", "--quiet", "ser"], ["serve"]),
    ],
)
def test_bash_completes(words, expected):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = (
        f"source '{FOLDER}/octodb.bash'; COMP_WORDS=({' '.join(repr(word) for word in words)}); "
        f"COMP_CWORD={len(words) - 1}; _octodb; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == expected
