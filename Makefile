# make repro   runs the chain on a machine with Python 3.11, git and make, and writes reports/index.html
# make verify  runs the chain and compares its results with the committed ones
# make test    runs the tests, for which it also installs requirements-dev.txt
# make lint    checks the style of the code
PYTHON ?= $(shell command -v python3.11 || command -v python3)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: install repro verify test lint

install: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed; give its path: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --requirement requirements.txt
	touch $@

repro: install
	python -m stages.params
	dvc repro
	python -m stages.summary

verify: repro
	python -m stages.verify

.venv/installed-dev: .venv/installed requirements-dev.txt
	.venv/bin/python -m pip install --requirement requirements-dev.txt
	touch $@

test: .venv/installed-dev
	OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile

lint: install
	ruff check .
	ruff format --check .
