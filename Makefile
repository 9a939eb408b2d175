# make demo   set up .venv (without torch) and estimate ages in a clip of two real portraits
# make test   set up everything, then run lint, types and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Further extras for the tests, such as EXTRA=,tensorrt-rtx (proprietary; compiles engines without a GPU).
EXTRA ?=
SETUP := pyproject.toml constraints.txt

.PHONY: demo test lint types format help docs test-slow soak build release-check clean web test-web
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo
	$(BIN)/numclip demo

# Two processes; each runs one test file at a time.
test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Tests import the package by its name, and pyright does not find editable installs; the link helps it.
types: $(VENV)/.dev
	@mkdir -p $(VENV)/house && ln -sfn ../.. $(VENV)/house/numclip
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Store the --help text of every command in docs/help; a test compares them.
help: $(VENV)/.dev
	$(BIN)/python tests/cli/test_help.py

# Build the documentation site into site/. For a live preview run `mkdocs serve`.
docs: $(VENV)/.dev
	$(BIN)/python -m mkdocs build --strict

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 3600

# Load-test the server: 50 clients for five minutes, 10,000 requests generated from its OpenAPI document, two browsers at once.
soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 3600 -s tests/server

# Build the browser pages and library (node 20 or newer): web/dist/site and server/dist/page go into the wheel, web/dist/lib to
# npm.
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

# Check a release: build sdist and wheel twice, compare and check them, install them in fresh environments; they stay in dist/.
release-check: $(VENV)/.dev
	$(BIN)/python .ci/release_check.py $(RELEASE_FLAGS)

clean:
	rm -rf $(VENV) web/node_modules web/dist server/dist build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis clip.mp4 demo.mp4 demo.jsonl demo.png

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "numclip needs Python 3.10 or newer; choose one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamp files: a second run installs nothing unless the requirements changed. The install is editable.
$(VENV)/.demo: $(SETUP) | $(BIN)/python
	$(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.dev: $(SETUP) | $(BIN)/python
	$(PIP) -e ".[demo,train,export,openvino,study,bulk,docs,dev$(EXTRA)]"
	@touch $@ $(VENV)/.demo
