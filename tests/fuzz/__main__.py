"""``python -m tests.fuzz [TARGET] [--seconds N]``: coverage-guided fuzzing with atheris, which is no dependency:
``pip install atheris`` first (https://github.com/google/atheris). Prints the bytes that fail."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed\n  fix: pip install atheris")
    if arguments.target == "all":
        from tests.fuzz.targets import TARGETS

        command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(arguments.seconds)]
        sys.exit(max(subprocess.run([*command, name], check=False).returncode for name in TARGETS))
    with atheris.instrument_imports(include=["octodb"]):
        from tests.fuzz.targets import TARGETS
    fuzz(atheris, TARGETS[arguments.target](), arguments)


def fuzz(atheris, target, arguments):
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        options = [f"-max_total_time={arguments.seconds}", "-max_len=4096", "-print_final_stats=1", "-verbosity=0"]
        print(f"{arguments.target}: {arguments.seconds} s", flush=True)
        atheris.Setup([sys.argv[0], *options, folder], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
