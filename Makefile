# make train | make test | make help. PYTHON=python3.12 picks another interpreter.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
CONFIG ?= configs/elastic.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
ARGS ?=
# Test processes; PYTEST_ARGS="-k grid" selects tests.
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])' 2>/dev/null)
PYTHONS := 3.11 3.12 3.13
# Each lock names every package of one Python with the hashes of its files, resolved for Linux x86_64.
LOCK := requirements/lock-py$(VERSION).txt
TEST_LOCK := requirements/lock-py$(VERSION)-test.txt
BUILD_LOCK := requirements/build.txt
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# uv takes a fraction of pip's time; where it cannot install (another index is set up for pip), pip does.
UV := $(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python
# Stamps, written last: an interrupted install or another Python makes the environment anew.
INSTALLED := $(VENV)/installed-py$(VERSION)
TESTABLE := $(VENV)/testable-py$(VERSION)

.PHONY: help install train test quick lock clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/'
	@echo '  e.g. make train CONFIG=configs/smoke.py WORKDIR=runs/smoke ARGS="--config.seed=1"'

install: $(INSTALLED)  ## the environment alone: .venv/bin/densityjax predict my/CHGCAR

train: $(INSTALLED)  ## install, build the dataset when it is missing, train CONFIG, write a report to WORKDIR
	$(VENV)/bin/python -m densityjax.main --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

test: $(TESTABLE)  ## install with the test tools, check the style, run the tests
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --durations 10 $(PYTEST_ARGS)

quick: $(TESTABLE)  ## while you work: the style and the tests that are short and start no processes
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  -m 'not slow and not process' $(PYTEST_ARGS)

$(INSTALLED): pyproject.toml setup.py $(wildcard $(LOCK)) $(BUILD_LOCK)
	@test -n '$(VERSION)' || { echo 'No interpreter "$(PYTHON)": install Python 3.11, 3.12 or' \
	  '3.13, or name one: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }
	@test -f $(LOCK) || { echo '$(PYTHON) is '"$$($(PYTHON) -V)"'; densityjax has lock files for' \
	  'Python 3.11, 3.12 and 3.13: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make' \
	  'environments: install its venv package (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r $(BUILD_LOCK)
	$(UV) --require-hashes -r $(LOCK) || $(PIP) install --require-hashes -r $(LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(TESTABLE): $(INSTALLED) $(wildcard $(TEST_LOCK))
	$(UV) --require-hashes -r $(TEST_LOCK) || $(PIP) install --require-hashes -r $(TEST_LOCK)
	@touch $@

# The tests' lock first, which the other one is a part of.
COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(VENV)/bin/uv pip compile --quiet --upgrade \
  --generate-hashes --no-annotate --python-platform x86_64-manylinux_2_28
lock: $(INSTALLED)  ## resolve the files of requirements/ again from pyproject.toml
	printf 'setuptools>=77\nuv\n' | $(COMPILE) --python-version 3.11 -o $(BUILD_LOCK) -
	for python in $(PYTHONS); do \
	  lock=requirements/lock-py$${python/./}; \
	  $(COMPILE) --python-version $$python -c $(BUILD_LOCK) --extra test -o $$lock-test.txt \
	    pyproject.toml || exit 1; \
	  $(COMPILE) --python-version $$python -c $$lock-test.txt -o $$lock.txt pyproject.toml || exit 1; \
	done

clean:  ## remove the environment and caches; data/ and runs/ stay
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
