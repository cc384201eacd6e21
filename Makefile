# The commands of the suite; `make help` lists them.
PYTHON ?= python3
SCALE ?= laptop
SEEDS ?=
EXPERIMENT ?=
CLAIM ?=
CLAIMS ?=
CONFIGS ?=
ALL ?=
ARGS ?=
RESULTS ?=
ENTITY ?=
PROJECT ?=
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup data reproduce verify dashboard bench sanitize test lint format lock freeze clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo "  SCALE=smoke|laptop|evening|width2|width4|figure6|section6|paper   size of everything (laptop)"
	@echo "  SEEDS=100                  a replication: evaluation seeds from 100 on, and tuning seeds of its own (0)"
	@echo "  CLAIM='<id> B5* 6.6'       reproduce only these claims: ids, patterns, sources (paper, 6.6), experiments"
	@echo "  CLAIMS=my.yaml             claims of your own, judged alone, in the place of those of configs/claims/"
	@echo "  CONFIGS=folder             with experiments of your own: experiment/<name>.yaml"
	@echo "  ALL=1       also run the arms on which no claim rests, after the others"
	@echo "  ARGS='key=value ...'       for every run, e.g. ARGS='n_jobs=8 tracking=none results=elsewhere'"
	@echo "  RESULTS=results            the folder to verify (results/reference), to freeze or to watch (results)"
	@echo "  ENTITY=me PROJECT=name     where in wandb (dashboard)"
	@echo "  PYTHON=python3.12          the interpreter .venv is made with (3.11 or newer)"

setup: .venv/bin/layernorm ## make .venv with the pinned versions and the command layernorm; compile the recurrent kernels
	@$(RUN) -m models.kernels || true

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python " + sys.version.split()[0] + " is too old; use make PYTHON=<3.11 or newer>")'
	@echo "installing the pinned versions into .venv (several GB with PyTorch's CUDA build)"
	@$(PYTHON) -m venv .venv
	@# What comes as source is built by the setuptools pinned there, not by the newest that pip would fetch for it.
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements.txt > .venv/build.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/build.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements.txt
	@touch $@

.venv/bin/layernorm: .venv/installed pyproject.toml
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

data: setup ## fetch and verify the data sets, those of the laptop or, DATA='strokes ...', others
	@$(RUN) -m data $(DATA)

# Of chosen claims the data that they need are fetched before their first run.
reproduce: $(if $(CLAIM)$(CLAIMS),setup,data) ## tune, run, judge and report: results/report.html, report.md, claims.json, runs.csv
	@$(RUN) -m experiments.reproduce --scale $(SCALE) $(foreach word,$(CLAIM),--claim '$(word)') $(if $(CLAIMS),--claims '$(CLAIMS)') $(if $(CONFIGS),--config-dir '$(CONFIGS)') $(if $(ALL),--all) $(if $(SEEDS),first_seed=$(SEEDS)) $(ARGS)

verify: .venv/installed ## recompute every verdict and the report from results/reference/ and compare
	@$(RUN) -m experiments.verify $(RESULTS)

dashboard: setup ## watch the runs in a browser; with ENTITY=<user or team> lay out their workspace in wandb
	@$(RUN) -m experiments.dashboard $(RESULTS) $(if $(ENTITY),--entity $(ENTITY)) $(if $(PROJECT),--project $(PROJECT))

bench: setup ## time this suite beside plain PyTorch: results/reference/bench.csv
	@$(RUN) scripts/bench.py $(ARGS)

sanitize: setup ## the recurrent kernels under sanitizers, and as compiled for AVX2 and SSE
	@$(RUN) scripts/sanitize.py
	@$(RUN) scripts/sanitize.py --march haswell --optimized
	@$(RUN) scripts/sanitize.py --march x86-64-v2
	@$(RUN) scripts/sanitize.py --march x86-64-v2 --optimized

test: setup lint ## all checks: style, types, tests
	@$(RUN) -m pytest -q -n auto --maxprocesses 8 --dist worksteal

lint: setup ## style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: setup ## put the code into the house style
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

freeze: setup ## keep runs and report in results/reference/: of a complete run, or with EXPERIMENT='<name> ...' of some
	@$(RUN) scripts/freeze.py $(RESULTS) --scale $(SCALE) $(if $(SEEDS),--first-seed $(SEEDS)) $(foreach name,$(EXPERIMENT),--experiment $(name))

lock: ## resolve requirements.in to requirements.txt (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header requirements.in -o requirements.txt

clean: ## remove .venv and caches; data and results stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
