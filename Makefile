# Everything a newcomer needs: `make demo` and `make test`. Each makes .venv and installs what is missing.

SHELL = /bin/sh
BIN = .venv/bin
SETUP = PYTHON="$(PYTHON)" tools/setup
ARGS ?=
DRIVER ?=

# DRIVER=oci:crun makes the tests that need just any isolating driver use that one; without it, the default.
ifneq ($(DRIVER),)
export REMORA_DRIVER = $(word 1,$(subst :, ,$(DRIVER)))
export REMORA_OCI_RUNTIME = $(word 2,$(subst :, ,$(DRIVER)))
endif

.DEFAULT_GOAL = help
.PHONY: help demo test test-fast test-slow test-clients check conformance bench format clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done

demo:  ## deploy a function with extensions, invoke it, draw its lifecycle
	@$(SETUP) demo
	@$(BIN)/python examples/demo.py $(ARGS)

test: check  ## everything that is checked: style, types, imports, and every test
	@$(BIN)/remora prepare
	@$(BIN)/python -m pytest -n auto --quiet --reruns 2 $(ARGS)

test-fast:  ## only the tests that take less than a quarter of a second each
	@$(SETUP) test check
	@$(BIN)/python -m pytest -n auto --quiet -m "not slow and not slow_soak" $(ARGS)

test-slow:  ## only the slow tests, those that take minutes too, with how long each took
	@$(SETUP) test check
	@$(BIN)/python -m pytest -n auto --quiet -m "slow or slow_soak" --durations=15 $(ARGS)

test-clients:  ## real SAM, CDK, Serverless and Terraform against a node; downloads all but the last into .clients
	@$(SETUP) test check
	@tools/clients
	@$(BIN)/remora prepare
	@REMORA_CLIENTS="$(CURDIR)/.clients" $(BIN)/python -m pytest tests/clients $(ARGS)

check:  ## formatting, lint, types, import contracts
	@$(SETUP) test check
	@$(BIN)/ruff format --check --quiet . || { echo "formatting differs: run make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@result=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$result"; exit 1; }
	@echo "check: format, lint, types and import contracts hold"

conformance:  ## the tests that show a numbered case of the specification, those of real deploy tools too
	@$(SETUP) test check
	@tools/clients
	@$(BIN)/remora prepare
	@REMORA_CLIENTS="$(CURDIR)/.clients" $(BIN)/python tools/conformance.py $(ARGS)

bench:  ## compare with the floor and with AWS's emulator; takes minutes
	@$(SETUP)
	@$(BIN)/python benchmarks/warm.py $(ARGS)
	@$(BIN)/python benchmarks/cold.py $(ARGS)
	@$(BIN)/python benchmarks/api.py

format:  ## rewrite the sources in the house's format
	@$(SETUP) test check
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

clean:  ## remove everything that make made, the virtualenv too
	rm -rf .venv .clients build dist src/remora/_native .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks tools native -name __pycache__ -type d -prune -exec rm -rf {} +
