# Everything works on a machine with only python3 (with venv and pip) and make.
# `make` names: demo test test-encryption check fix bench sim crash attacks fuzz conformance clean
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-encryption check fix bench sim crash attacks fuzz conformance clean setup

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is missing or older than 3.11"; \
	  echo "  fix: install Python 3.11 or newer, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module"; \
	  echo "  fix: install it (Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { \
	  echo "error: the Python packages named in pyproject.toml could not be installed"; \
	  echo "  fix: check the network or the pip index (pip config list), then run make again"; exit 1; }
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/octodb demo

test: $(STAMP)
	@$(BIN)/python -m pytest -q
	@$(MAKE) --no-print-directory test-encryption

# The module apsw of another package, apsw-sqlite3mc, lies in a folder of its own that only these tests look into.
ENCRYPTION := $(abspath $(VENV))/encryption

test-encryption: $(STAMP)
	@test -d $(ENCRYPTION)/apsw || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --target $(ENCRYPTION) 'apsw-sqlite3mc!=3.54.0.*' || true
	@if test -d $(ENCRYPTION)/apsw; then PYTHONPATH=$(ENCRYPTION) $(BIN)/python -m pytest -q tests/encryption; \
	  else echo "skipped: tests/encryption (apsw-sqlite3mc could not be downloaded: check the network or the pip index)"; fi

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	@$(BIN)/python -m benchmarks --save

# Histories of sync in virtual time: make sim SEEDS=1000, or one of them in full: make sim SEED=48. With a fault put into
# the product, to see that it is noticed: make sim SEEDS=300 MUTATE=dedupe (tests/simulation/mutations.py lists them)
sim: $(STAMP)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),300)) \
	  $(if $(FIRST),--first $(FIRST)) $(if $(MUTATE),--mutate $(MUTATE))

# kill -9 of real processes, in the middle of commits, pushes and applies: make crash ROUNDS=200
crash: $(STAMP)
	@$(BIN)/python -m tests.crash --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

# Attacks on a real primary and on devices, with their real limits; three minutes
attacks: $(STAMP)
	@$(BIN)/python -m tests.attacks --slow

# Coverage-guided fuzzing of decoders, both machines and the judge: make fuzz SECONDS=600 TARGET=changesets
fuzz: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris
	@$(BIN)/python -m tests.fuzz $(TARGET) --seconds $(or $(SECONDS),60)

conformance: $(STAMP)
	@$(BIN)/python tests/conformance/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
