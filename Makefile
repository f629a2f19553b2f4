# The daily commands. Everything that they need is found or installed by testbed/bootstrap.py.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Who may run beside whom is in tests/conftest.py.
SIDE_BY_SIDE := -n 2
FORCED = $(if $(FORCE),--force)

.DEFAULT_GOAL := help
.PHONY: help release wheels docs demo venv generate lint test test-unit test-fast bench test-mutants test-model test-matrix test-fuzz test-kills test-faults test-people test-scale up down

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: ## install what the project needs
	@$(PYTHON) testbed/bootstrap.py

generate: venv ## write crds/ and the reference pages of docs/ from the models, and manifests/ from the chart
	@$(BIN)/python -m volatile_rse.api.crds crds
	@$(BIN)/python -m testbed.rendering
	@$(BIN)/python -m volatile_rse.api.pages docs
	@$(BIN)/python -m volatile_rse.cli.reference docs/cli.md
	@$(BIN)/python -m volatile_rse.jupyterhub.values > examples/jupyterhub/values.yaml

release: venv ## write kinds, manifests and chart to dist/ with OPERATOR_IMAGE, BUFFER_IMAGE and SIDECAR_IMAGE, each by digest
	@PYTHONPATH=operator $(BIN)/python -m volatile_rse.api.release . dist "$(OPERATOR_IMAGE)" "$(BUFFER_IMAGE)" "$(SIDECAR_IMAGE)"

wheels: venv ## write the Python distributions to dist/: the operator's, and those that a session and a hub import
	@$(BIN)/hatchling build -t wheel -d dist
	@cd distributions/session && ../../$(BIN)/hatchling build -t wheel -d ../../dist
	@cd distributions/jupyterhub && ../../$(BIN)/hatchling build -t wheel -d ../../dist

docs: venv ## write the site of the pages in docs/ to dist/docs/
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --builder html docs dist/docs

lint: venv ## ruff, mypy, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=operator $(BIN)/lint-imports

test-unit: venv ## unit tests only
	@$(PYTEST) -m "not slow" tests/unit

demo: venv ## the main job from nothing, shown
	@$(BIN)/python -m testbed demo $(FORCED)

up: venv ## start the testbed: cluster, Rucio, sites
	@$(BIN)/python -m testbed up $(FORCED)

down: ## remove the testbed; FORCE=1: also while it is in use, or outputs are not safe
	@$(PYTHON) -m testbed down $(FORCED)

test-fast: up ## unit and end-to-end tests against a testbed that stays
	@$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not people" tests

bench: up ## how fast it is, beside stock clients; writes docs/benchmarks.md (BENCH="staging table" does a part; BENCH=scale SCALE="100 300" many buffers)
	@$(BIN)/python -c "from testbed import installation; installation.up()"
	@PYTHONPATH=operator $(BIN)/python -m testbed.bench $(BENCH)

test-mutants: venv ## seed bugs, and count how many the unit tests catch
	@$(BIN)/python -m tests.mutants

test-matrix: venv ## strike every effect and every single write of every way that a session may go
	@VRSE_MATRIX=whole $(PYTEST) tests/unit/reconcile/test_*_matrix.py

test-model: venv ## explore what may happen to one session, for ten minutes
	@MODEL_SECONDS=600 $(PYTEST) -s tests/model --timeout 900

test-fuzz: venv ## what nobody writes or answers, in every field and every answer: 75 minutes of processor time (CASES=100 SEED=7 draws some for each test)
	@VRSE_FUZZ=$(or $(CASES),whole) VRSE_FUZZ_SEED=$(or $(SEED),1) $(PYTEST) $(SIDE_BY_SIDE) tests/unit/fuzz --timeout 0

test-kills: up ## 10 sessions, 2,000 files, 100 random kills: what is lost? (KILLS="--seed 2 --kills 20" changes it)
	@$(BIN)/python -m testbed.kills $(KILLS)

test-faults: up ## everything that may fail around a session fails, on the cluster
	@$(PYTEST) tests/e2e/test_faults.py tests/e2e/test_deletions.py tests/e2e/test_inputs.py tests/e2e/test_losses.py \
		tests/e2e/test_outputs.py tests/e2e/test_kills.py tests/e2e/test_quotas.py tests/e2e/test_eviction.py

test-people: up ## what people do, as the pages say: with longer waits, and more installed, than `make test` has time for
	@$(PYTEST) -m people tests

test-scale: up ## forty real buffers at once: what do they ask of the API server?
	@$(PYTEST) tests/e2e/test_scale.py

test: venv ## all but the long tests, on a testbed made anew and removed afterwards
	@$(BIN)/python -m testbed prepare & $(MAKE) --no-print-directory lint || { kill $$!; exit 1; }; wait $$!
	@$(BIN)/python -m testbed up --fresh --holder $$PPID $(FORCED)
	@status=0; $(PYTEST) $(SIDE_BY_SIDE) -m "not long and not people" --plans 1000 --durations=20 tests || status=$$?; $(BIN)/python -m testbed down --discard >/dev/null 2>&1 || true; exit $$status
