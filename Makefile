# make install | demo | compare | test | clean. DETECTRON2=source builds the official repository with its compiled ops.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DETECTRON2 ?= wheel
STAMP := $(VENV)/.installed-$(DETECTRON2)

.PHONY: install demo compare test clean

install: $(STAMP)

$(STAMP): requirements.txt setup.py tools/install_detectron2.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed; set PYTHON=python3.11")'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	bash tools/install_detectron2.sh $(BIN)/python $(DETECTRON2)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

demo: install
	$(BIN)/python tools/demo.py --output demo

# Three small models, a few minutes each, on drawn nuclei, and the page that compares them.
compare: install
	$(BIN)/python datasets/prepare_synthetic.py --output demo --name demo --kinds nuclei --size 160
	DETECTRON2_DATASETS=demo $(BIN)/python tools/train_all.py --suite configs/synthetic/suite_small.yaml --minutes 2 \
		--output demo/suite

test: install
	$(BIN)/python -m pytest -q tests

clean:
	rm -rf demo output .pytest_cache .hypothesis
