# Every target sets up .venv by itself when it is missing or older than what it was made from.
#
#   make demo    train a small colour cortex, count the dimensions of its colour, write a page
#   make test    the test suite
#   make check   formatting, lint, types, dependencies
#   make docs    the documentation, into docs/_build
#   make bench   the long proofs and the benchmarks
#
# PYTHON chooses the interpreter, PIP_ARGS is passed on to pip.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs
EXTRAS := train,data,spectral,events,viz,oracle,test,lint
PIP := $(PY) -m pip --disable-pip-version-check install --quiet $(PIP_ARGS)
RUN := runs/demo

.PHONY: setup demo test check docs bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	@echo "Setting up $(VENV) (a few minutes, mostly downloads) ..."
	@$(PY) -c "import sys" 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@# torch first and pinned: left to a resolver it brings several GB of CUDA packages
	@$(PIP) --constraint constraints.txt torch
	@$(PIP) --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

$(DOCS_READY): $(READY)
	@$(PIP) --constraint constraints.txt --editable ".[docs]"
	@touch $@

demo: $(READY)
	$(PY) -m calcarine train color-sandbox --run $(RUN) --resume
	$(PY) -m calcarine colour-match $(RUN)
	$(PY) -m calcarine report $(RUN)

# One thread per worker: two torch processes with all threads each slow each other down.
test: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

check: $(READY)
	$(PY) -m ruff format --check src tests tutorials benchmarks
	$(PY) -m ruff check src tests tutorials benchmarks
	$(PY) -m mypy
	$(PY) -m pip check

docs: $(DOCS_READY)
	$(PY) -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

bench: $(READY)
	$(PY) -m pytest -m slow
	$(PY) benchmarks/color_step.py
	$(PY) benchmarks/front_ends.py
	$(PY) benchmarks/metamer.py
	$(PY) benchmarks/eigendistortion.py
	$(PY) benchmarks/local_connection.py --models
	$(PY) benchmarks/spiking.py
	$(PY) benchmarks/cordsnet.py
	$(PY) benchmarks/spectrum.py

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache
