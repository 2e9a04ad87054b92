# make demo: the main job, no keys needed.  make test: the tests.  Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WRITERS := .venv-writers

.PHONY: demo check test test-real writers soak schema lock bench-latency bench-idle bench-tail bench-backtest bench-parsers bench-speed clean

demo: $(READY)
	@$(BIN)/runwarden demo

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)
	$(BIN)/pytest -m "not real"

test-real: $(READY)
	$(BIN)/pytest -m real -rs

# The trainers' own libraries, which write what the tests read. Torch is named by its version alone: its builds differ
# from machine to machine (a few GB with CUDA), and any of them writes the same files.
writers: $(WRITERS)/.ready
$(WRITERS)/.ready: tests/real/writers.in tests/real/writers.lock
	$(PYTHON) -m venv $(WRITERS)
	$(WRITERS)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' tests/real/writers.in)"
	$(WRITERS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r tests/real/writers.lock
	@touch $@

soak: $(READY)
	$(BIN)/python -m benchmarks.kills --kills 200
	$(BIN)/python -m benchmarks.tail_model --sequences 10000

bench-latency: $(READY)
	$(BIN)/python -m benchmarks.latency

bench-idle: $(READY)
	$(BIN)/python -m benchmarks.idle

# rsyslog stands beside ours where it is on the path or named in RSYSLOGD.
bench-tail: $(READY)
	$(BIN)/python -m benchmarks.tail_faults
	$(BIN)/python -m benchmarks.tail_many

bench-backtest: $(READY)
	$(BIN)/python -m benchmarks.backtest_speed

bench-parsers: $(READY)
	$(BIN)/python -m benchmarks.parsers

# With river and bottleneck beside it where they are installed: .venv/bin/pip install river bottleneck
bench-speed: $(READY)
	$(BIN)/python -m benchmarks.detectors_speed

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Runwarden needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python lacks venv; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# What editors check a configuration by.
schema: $(READY)
	$(BIN)/python -m monitor.config > config/schema.json

# The lock holds versions and hashes for every platform, and no download addresses.
lock:
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock
	echo 'torch; python_version < "3"' | $(BIN)/uv pip compile tests/real/writers.in --override - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o tests/real/writers.lock

clean:
	rm -rf .venv $(WRITERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis out
