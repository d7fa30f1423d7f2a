# Needs Python 3.11 or newer and make. `make help` lists what can be done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?=
PARAMS ?= {}
RUN ?=
STAGE ?=
A ?=
B ?=
APPLY ?=
export PARAMS RUN STAGE A B

# These would make every import slow, or let another environment leak in.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help install run test fast up lab open compare reproduce reports prune history champion promote rollback reconcile doctor notebooks regress format lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 12

install: $(VENV)/ready  ## make the environment, once (other targets do it on first use)

$(VENV)/ready: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	sed -n '/^uv==/,/^[a-z][^ ]*==/{/^uv==/p;/^    --hash/p}' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --compile-bytecode -e .
	$(BIN)/python -m lib.cli prepare
	@touch $@

run: $(VENV)/ready  ## train all pipelines on sample data, or run one: PIPELINE=power PARAMS='{"source": "..."}'
	@$(BIN)/python -m lib.cli run $(PIPELINE) --params "$$PARAMS"

test: $(VENV)/ready  ## run every test, nbval included
	$(BIN)/python -m pytest --nbval --nbval-current-env tests notebooks

fast: $(VENV)/ready  ## run the quick tests, which start no kernel, on all cores
	$(BIN)/python -m pytest -q -n logical --dist loadscope -m "not kernel and not slow"

regress: $(VENV)/ready  ## re-run the committed notebooks and compare their outputs (nbval)
	$(BIN)/python -m pytest --nbval --nbval-current-env notebooks

up: $(VENV)/ready  ## start Airflow, MLflow and JupyterLab on 127.0.0.1 until Ctrl-C
	@$(BIN)/python -m lib.cli up --airflow-port "$$AIRFLOW_PORT" --mlflow-port "$$MLFLOW_PORT" --lab-port "$$LAB_PORT"

lab: $(VENV)/ready  ## start JupyterLab alone
	@$(BIN)/python -m lib.cli lab --lab-port "$$LAB_PORT"

open: $(VENV)/ready  ## open a stage of a run in JupyterLab, on a copy: RUN=power/... STAGE=05_evaluate
	@$(BIN)/python -m lib.cli open "$$RUN" "$$STAGE"

compare: $(VENV)/ready  ## put two runs side by side on a page: A=power/... B=power/...
	@$(BIN)/python -m lib.cli compare "$$A" "$$B"

reproduce: $(VENV)/ready  ## make a run again from its commit, and compare the metrics: RUN=power/...
	@$(BIN)/python -m lib.cli reproduce "$$RUN"

reports: $(VENV)/ready  ## write the pages of all runs anew, and their index
	@$(BIN)/python -m lib.cli reports $(if $(RUN),"$$RUN")

prune: $(VENV)/ready  ## say which old runs nothing refers to; APPLY=1 deletes them
	@$(BIN)/python -m lib.cli prune $(if $(APPLY),--apply)

history: $(VENV)/ready  ## every change of a registered model's aliases: MODEL=...
	@$(BIN)/python -m lib.cli history "$$MODEL"

champion: $(VENV)/ready  ## which version of a model is in production, or was: MODEL=... AT=2026-11-01
	@$(BIN)/python -m lib.cli champion "$$MODEL" --at "$$AT"

promote: $(VENV)/ready  ## put a version into production: MODEL=... VERSION=3 REASON="..."
	@$(BIN)/python -m lib.cli promote "$$MODEL" "$$VERSION" --reason "$$REASON"

rollback: $(VENV)/ready  ## put the champion before this one back: MODEL=... REASON="..."
	@$(BIN)/python -m lib.cli rollback "$$MODEL" --reason "$$REASON"

reconcile: $(VENV)/ready  ## finish changes of aliases that were cut off (MODEL=... for one)
	@$(BIN)/python -m lib.cli reconcile "$$MODEL"

doctor: $(VENV)/ready  ## check kernel, servers, versions, disk, locks; name each problem and its fix
	@$(BIN)/python -m lib.cli doctor

notebooks: $(VENV)/ready  ## re-execute the committed notebooks in place (PIPELINE=power for one)
	@$(BIN)/python -m lib.cli notebooks $(PIPELINE)

format: $(VENV)/ready  ## lint and format Python files and notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/ready  ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url --no-annotate --no-header --group dev pyproject.toml -o requirements.lock

clean:  ## remove the environment; runs and data stay
	rm -rf $(VENV)
