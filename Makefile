# make demo   sets up .venv (no torch) and shows ages on a clip of two real portraits
# make test   sets up everything, then lint, types and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# More extras for the tests, such as EXTRA=,tensorrt-rtx (proprietary; engines are then compiled, without a GPU).
EXTRA ?=
SETUP := pyproject.toml constraints.txt

.PHONY: demo test lint types format help docs test-slow soak build release-check clean web test-web
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo
	$(BIN)/numclip demo

# Two processes, a file of tests in one of them at a time.
test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The link is for the tests, which import the package by its name; a type checker does not see editable installs.
types: $(VENV)/.dev
	@mkdir -p $(VENV)/house && ln -sfn ../.. $(VENV)/house/numclip
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What every verb's --help says, stored in docs/help and compared by a test.
help: $(VENV)/.dev
	$(BIN)/python tests/cli/test_help.py

# The documentation site, into site/; `mkdocs serve` shows it while you write.
docs: $(VENV)/.dev
	$(BIN)/python -m mkdocs build --strict

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 3600

# The server under 50 clients for five minutes, 10,000 requests made from its document, two browsers at once.
soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 3600 -s tests/server

# The browser's pages and library, with node 20 or newer: web/dist/site and server/dist/page, which a wheel then holds, and
# web/dist/lib for npm.
web: web/node_modules/.stamp
	cd web && npm run build

test-web: web $(VENV)/.dev
	cd web && npm run lint && npm run types && npm test
	$(BIN)/python -m pytest tests/web tests/server/test_page.py

web/node_modules/.stamp: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

build: $(VENV)/.dev
	$(BIN)/python -m build

# Ready for a release? sdist and wheel built twice and compared, checked, and installed in fresh environments; left in dist/.
release-check: $(VENV)/.dev
	$(BIN)/python .ci/release_check.py $(RELEASE_FLAGS)

clean:
	rm -rf $(VENV) web/node_modules web/dist server/dist build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis demo.mp4 demo.jsonl demo.png

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "numclip needs Python 3.10 or newer; say which with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: a second run installs nothing unless the requirements changed. The install is editable.
$(VENV)/.demo: $(SETUP) | $(BIN)/python
	$(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.dev: $(SETUP) | $(BIN)/python
	$(PIP) -e ".[demo,train,export,openvino,study,bulk,docs,dev$(EXTRA)]"
	@touch $@ $(VENV)/.demo
