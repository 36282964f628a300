# `make run` and `make test` need a Debian with make and Python 3.11; they bring the rest.
PORT ?= 8000
ARGS ?=
# One at a time per copy of the repository: two may be started together.
INSTALL = flock Makefile sh tests/support/install.sh

.DEFAULT_GOAL := help
.PHONY: run test test-long bench check lock clean help

run: ## start Yimen with demo data on the embedded default; PORT=9000 moves it
	@$(INSTALL) requirements.lock
	@if [ "$(PORT)" != 8000 ] && [ -z "$$YIMEN_ISSUER$$YIMEN_CONFIG" ]; then \
		export YIMEN_ISSUER=http://127.0.0.1:$(PORT); \
	fi; \
	exec .venv/bin/python server.py run --demo --port $(PORT)

test: check ## check, then every test on private servers; ARGS="-k word" goes to pytest
	@.venv/bin/python -m tests.support.run $(ARGS)

test-long: check ## the tests that take minutes
	@.venv/bin/python -m tests.support.run -m long $(ARGS)

bench: ## CPU time, rate and latency of each endpoint; docs/benchmarks.md has the variables
	@$(INSTALL) requirements-test.lock
	@exec .venv/bin/python -m tests.bench.run

check: ## lint, format and types
	@$(INSTALL) requirements-test.lock
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

lock: ## write the lock files anew after a change of pyproject.toml; ARGS=--upgrade renews all versions
	@python3 -m tests.support.lock $(ARGS)

clean: ## remove what was installed and cached; data in var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20
