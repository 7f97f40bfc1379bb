# `make tune` and `make test` do all the set-up; the plain lines they run stand in README.md.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# torch is named first and exactly, so that a CPU build which is at hand is taken.
TORCH  ?= torch==2.13.0
KILLS  ?= 6

.PHONY: tune test test-fuzz test-faults test-chaos test-cluster test-long test-slow lint clean

tune: $(VENV)/installed            ## search CGCNN on the built-in data set, about a minute
	$(BIN)/raymat tune --space quick

test: $(VENV)/installed-dev        ## everything that runs within a few minutes
	$(BIN)/python -m pytest

test-fuzz: $(VENV)/installed-dev   ## 300 malformed inputs over all commands, in one process
	$(BIN)/python -m pytest -m "fuzz" -n 0

test-faults: $(VENV)/installed-dev ## kills and interrupts commands, minutes
	$(BIN)/python -m pytest -m "faults"

test-chaos: $(VENV)/installed-dev  ## kills at random instants; KILLS=20 for each of five commands
	RAYMAT_KILLS=$(KILLS) $(BIN)/python -m pytest -m "chaos" --dist load

test-cluster: $(VENV)/installed-dev ## `ray up` on three hosts of this machine: root, iproute2, sshd, rsync
	$(BIN)/python -m pytest -m "cluster and not slow" -n 0

test-long: $(VENV)/installed-dev  ## whole runs of half a minute each
	$(BIN)/python -m pytest -m "long and not faults and not slow"

test-slow: $(VENV)/installed-dev   ## longer proofs
	$(BIN)/python -m pytest -m "slow"

lint: $(VENV)/installed-dev        ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'raymat needs Python 3.11 to 3.13; run make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:                             ## remove the environment
	rm -rf $(VENV)
