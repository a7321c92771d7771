# Needs nothing but make, a POSIX shell and Python 3.11 or newer.  `make` alone lists the targets.

SHELL = /bin/sh
PYTHON = python3
VENV = .venv
PY = $(VENV)/bin/python
DRIVETRAIN = $(PY) -m drivetrain
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help setup demo test test-slow check bench links clean

help:
	@echo "make setup      create $(VENV), install the pinned packages, compile the kernels"
	@echo "make demo       train a driver, score it on unseen tracks and on CarRacing-v3, record a video"
	@echo "make test       the fast tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      lint, format, types, layers"
	@echo "make bench      every script of benchmarks/, one after the other"
	@echo "make links      renew typings/, the links that type checkers follow"
	@echo "make clean      remove $(VENV), build products and caches (runs/ stays)"

setup: $(VENV)/.installed $(VENV)/.warm

# Installed again only when the list of packages changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: no $(PYTHON) found; install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: drivetrain needs Python 3.11 or newer; got $$($(PYTHON) -V 2>&1); name another: make setup PYTHON=python3.12" >&2; \
	  exit 2; }
	@$(PY) -c 'import pip' 2>/dev/null || { echo "setup: creating $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } || { \
	  rm -rf $(VENV); echo "error: $(PYTHON) cannot create environments; install its venv module (often python3-venv)" >&2; \
	  exit 2; }
	@echo "setup: installing packages into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e ".[dev]"
	@touch $@

# Compiled kernels are cached beside their source; this fills the cache, so that no run waits for the compiler.
$(VENV)/.warm: $(VENV)/.installed $(wildcard agents/*.py envs/*.py policies/*.py)
	@echo "setup: compiling kernels"
	@$(DRIVETRAIN) doctor --warm
	@touch $@

# A name that is still free: demo, demo-2, demo-3 …
demo: setup
	@set -e; name=demo; n=1; while [ -e "runs/$$name" ]; do n=$$((n + 1)); name="demo-$$n"; done; \
	echo; echo "1/4  training a driver until it scores 900 on tracks it does not train on"; \
	$(DRIVETRAIN) train ppo racing --stop-at 900 --name "$$name"; \
	echo; echo "2/4  scoring it on 100 tracks it never saw"; \
	$(DRIVETRAIN) evaluate "$$name"; \
	echo; echo "3/4  scoring it, unchanged, on Gymnasium's own CarRacing-v3"; \
	$(DRIVETRAIN) evaluate "$$name" --env CarRacing-v3 --episodes 20; \
	echo; echo "4/4  recording a video"; \
	mkdir -p "runs/$$name/videos"; \
	$(DRIVETRAIN) record "$$name" --out "runs/$$name/videos/demo.mp4"; \
	echo; echo "done. Everything is in runs/$$name:"; \
	echo "  video        runs/$$name/videos/demo.mp4"; \
	echo "  curve        runs/$$name/curve.png"; \
	echo "  metrics      runs/$$name/metrics.jsonl     tensorboard: $(VENV)/bin/tensorboard --logdir runs"; \
	echo "  checkpoints  runs/$$name/checkpoints"; \
	echo "watch it in a window: $(VENV)/bin/drivetrain watch $$name"

test: setup
	@$(ONE_THREAD) $(PY) -m pytest -n 2 --dist loadfile

test-slow: setup
	@$(ONE_THREAD) $(PY) -m pytest -m "slow and not gpu"

check: $(VENV)/.installed
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet . || { \
	  echo "error: files are not formatted; run $(VENV)/bin/ruff format ." >&2; exit 1; }
	@$(VENV)/bin/mypy --no-error-summary
	@$(PY) -m pytest tests/test_layers.py
	@echo "check: lint, format, types and layers are in order"

bench: setup
	@set -e; for script in benchmarks/[!_]*.py; do echo; echo "$$script"; $(PY) "$$script"; done

links:
	@rm -rf typings/drivetrain && mkdir -p typings/drivetrain
	@for folder in agents envs policies; do ln -s "../../$$folder" "typings/drivetrain/$$folder"; done
	@for file in cli/*.py cli/py.typed; do ln -s "../../$$file" "typings/drivetrain/$${file#cli/}"; done

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
