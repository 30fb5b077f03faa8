# make install | demo | compare | peers | lint | test | soak | clean. DETECTRON2=source builds the official repository with its compiled
# operators. What pip says goes to LOG.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS ?= .venv-peers
DETECTRON2 ?= wheel
TEST_PROCESSES ?= 2
STAMP := $(VENV)/.installed-$(DETECTRON2)
TEST_STAMP := $(VENV)/.installed-test
LOG := $(VENV)/install.log
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

# $(call logged,what is done,command): one line on the terminal; the end of the log if it fails.
logged = @echo "$(1)"; $(2) >>$(LOG) 2>&1 || { echo "failed; the end of $(LOG):"; tail -n 25 $(LOG); exit 1; }

.PHONY: install demo compare peers lint test soak clean

install: $(STAMP)

$(STAMP): requirements.txt setup.py pyproject.toml objguided_d2/utils/detectron2_install.py
	@test -x $(BIN)/python || { echo "1/4 environment $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed; set PYTHON=python3.11")'
	@: >$(LOG)
	$(call logged,2/4 packages of requirements.txt: some minutes (log: $(LOG)),$(PIP) -r requirements.txt)
	$(call logged,3/4 objguided_d2,$(PIP) --no-build-isolation --no-deps -e .)
	$(call logged,4/4 Detectron2 ($(DETECTRON2)),$(BIN)/python -m objguided_d2 doctor --install-detectron2 $(DETECTRON2))
	@touch $@
	@echo "installed; $(BIN)/objguided --help"

demo: install
	$(BIN)/python tools/demo.py --output demo

# Three small models, a few minutes each, on synthetic nuclei, and the page that compares them.
compare: install
	$(BIN)/objguided prepare synthetic --output demo --name demo --kinds nuclei --size 160
	DETECTRON2_DATASETS=demo $(BIN)/objguided train --suite synthetic/suite_small --images 1000 --output demo/suite

# StarDist, Cellpose and InstanSeg in an environment of their own, see benchmarks/peers/README.md.
peers: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	@test -x $(PEERS)/bin/python || { echo "environment $(PEERS)"; $(PYTHON) -m venv $(PEERS); }
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --progress-bar off -q -r $<
	@touch $@

$(TEST_STAMP): requirements-test.txt | install
	$(call logged,packages of requirements-test.txt (log: $(LOG)),$(PIP) -r requirements-test.txt)
	@touch $@

lint: install $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install $(TEST_STAMP)
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist worksteal tests

# What takes too long for the tests: damaged files by the thousand, runs that are killed again and again, memory over
# thousands of steps, images and boxes of any size.
soak: install $(TEST_STAMP)
	$(BIN)/python -m benchmarks.fuzz_readers --count 100000
	$(BIN)/python -m tests.engine.soak --kills 10
	$(BIN)/python -m tests.engine.soak_memory --steps 2000
	$(BIN)/python -m pytest -q --hypothesis-profile soak tests/modeling/test_properties.py

clean:
	rm -rf demo output build .pytest_cache .mypy_cache .ruff_cache .hypothesis
