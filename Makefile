# make repro   runs the chain on a machine with Python 3.11 to 3.14, git and make, and writes reports/index.html
# make verify  runs the chain and compares its results with the committed ones
# make test    runs the tests, for which it also installs requirements-dev.txt; PYTEST="-m 'not chain'" runs fewer
# make lint    checks the style of the code
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$python && exit; \
	done; echo python3)
python := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: install repro verify test lint

install: .venv/installed

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; give its path: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(python) -m pip install --requirement requirements.txt
	touch $@

repro: install
	$(python) -m stages.params
	$(python) -m dvc repro
	$(python) -m stages.summary

verify: repro
	$(python) -m stages.verify

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(python) -m pip install --requirement requirements-dev.txt
	touch $@

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: .venv/installed-dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
