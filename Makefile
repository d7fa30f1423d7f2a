# Needs Python 3.11 or newer and make. `make help` lists what can be done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Arguments are what is typed after `make`; the environment of the shell is not asked for them.
PIPELINE :=
PARAMS := {}
SOURCE :=
ALL :=
TASK :=
RUN :=
STAGE :=
NOTEBOOK :=
A :=
B :=
KEEP :=
LAST :=
DAYS :=
APPLY :=
MODEL :=
VERSION :=
REASON :=
AT :=
FROM :=
UNTIL :=
OF :=
RESUME :=
FORCE :=
AIRFLOW_PORT :=
MLFLOW_PORT :=
LAB_PORT :=
QUEUES :=
export PIPELINE PARAMS SOURCE TASK RUN STAGE NOTEBOOK A B LAST DAYS MODEL VERSION REASON AT FROM UNTIL OF RESUME
export AIRFLOW_PORT MLFLOW_PORT LAB_PORT QUEUES

# These would make every import slow, or let another environment leak in.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

# The names that were typed, so that a misspelt one is an error rather than left out.
TYPED := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))

# What was typed is a text, in which make would look for variables of its own.
TEXTS := PIPELINE PARAMS SOURCE RUN STAGE NOTEBOOK A B MODEL VERSION REASON AT FROM UNTIL OF RESUME
$(foreach name,$(TEXTS),$(eval override $(name) := $$(value $(name))))

CLI = $(BIN)/python -m lib.commands.cli $(if $(word 2,$(MAKECMDGOALS)),,--given "$(TYPED)")
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header
yes = $(filter-out 0 no false,$(1))

# A word that is no target is an error at once: `make run power` would run everything first.
TARGETS := help install run look why new test fast up lab head worker open keep compare reproduce reports prune tidy history champion promote rollback reconcile doctor notebooks regress format lock clean
OTHER := $(firstword $(filter-out $(TARGETS) $(VENV)/%,$(MAKECMDGOALS)))
$(if $(OTHER),$(error no target $(OTHER); make help lists what there is$(if $(wildcard notebooks/$(OTHER)),; a pipeline is named by PIPELINE=$(OTHER))))

.DEFAULT_GOAL := help
.PHONY: $(TARGETS)

help:  ## show this
	@printf 'make <target> [NAME=value ...]\n'
	@awk -F ' *## *' '/^##@/ { printf "\n%s\n", substr($$2, 3) } \
		/^[a-z]+:.*##/ { split($$1, name, ":"); n = split($$2, part, " *[|] *"); \
		printf "  %-11s %s\n", name[1], part[1]; if (n > 1) printf "  %-11s %s\n", "", part[2] }' $(MAKEFILE_LIST)

##@ Start

install: $(VENV)/ready  ## make the environment, once (other targets do it on first use)
	@printf 'Next: make run PIPELINE=power, then make up. make help lists everything.\n'

$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -m lib.commands.install $(VENV)

$(VENV)/cluster: requirements-cluster.lock | $(VENV)/ready
	@$(PYTHON) -m lib.commands.install $(VENV) requirements-cluster.lock

run: $(VENV)/ready  ## run what has changed, of all pipelines on sample data or of one; or go on with a run | [PIPELINE=power] [PARAMS='{"source": "sample", "horizon": 24}'] [FROM=04_train] [UNTIL=05_evaluate] [OF=latest] [FORCE=1] [RESUME=power/<run>]
	@$(CLI) run --params="$$PARAMS" --from="$$FROM" --until="$$UNTIL" --of="$$OF" --resume="$$RESUME" $(if $(call yes,$(FORCE)),--force) -- $$PIPELINE

why: $(VENV)/ready  ## say why a stage of a run was executed, or where it was taken from | [RUN=latest] [STAGE=03_tune]
	@$(CLI) why -- "$$RUN" "$$STAGE"

look: $(VENV)/ready  ## say what a source is as a pipeline reads it, and how to run on it; ALL=1 counts every row | SOURCE=<file> PIPELINE=power [PARAMS='{"time_zone": "UTC"}'] [ALL=1]
	@$(CLI) look --pipeline="$$PIPELINE" --params="$$PARAMS" $(if $(call yes,$(ALL)),--all) -- "$$SOURCE"

up: $(VENV)/ready  ## start Airflow, MLflow and JupyterLab on 127.0.0.1 until Ctrl-C | [AIRFLOW_PORT=8080] [MLFLOW_PORT=5000] [LAB_PORT=8888]
	@$(CLI) up --airflow-port="$$AIRFLOW_PORT" --mlflow-port="$$MLFLOW_PORT" --lab-port="$$LAB_PORT"

lab: $(VENV)/ready  ## start JupyterLab alone | [LAB_PORT=8888]
	@$(CLI) lab --lab-port="$$LAB_PORT"

doctor: $(VENV)/ready  ## check kernel, servers, versions, disk; name each problem and its fix
	@$(CLI) doctor

##@ Several machines: deploy/README.md

head: $(VENV)/cluster  ## run Airflow's servers and MLflow's for workers on other machines
	@$(CLI) head

worker: $(VENV)/cluster  ## run stages on this machine, for a head | [QUEUES=default,gpu]
	@$(CLI) worker --queues="$$QUEUES"

##@ Runs: one is <pipeline>/<run>, latest, or power/latest

open: $(VENV)/ready  ## open a stage in JupyterLab, on a copy; by default the one that failed, else the evaluation | [RUN=latest] [STAGE=05_evaluate]
	@$(CLI) open -- "$$RUN" "$$STAGE"

keep: $(VENV)/ready  ## show what changed in an opened stage and bring it into notebooks/ after a yes | [NOTEBOOK=latest] [APPLY=1]
	@$(CLI) keep $(if $(call yes,$(APPLY)),--apply) -- "$$NOTEBOOK"

compare: $(VENV)/ready  ## put two runs side by side on a page; by default the last two of one pipeline | [A=power/<run>] [B=power/latest] [PIPELINE=power]
	@$(CLI) compare --pipeline="$$PIPELINE" -- "$$A" "$$B"

reproduce: $(VENV)/ready  ## make a run again from its commit, data and seed, and compare the metrics | [RUN=latest] [KEEP=1]
	@$(CLI) reproduce $(if $(call yes,$(KEEP)),--keep) -- "$$RUN"

reports: $(VENV)/ready  ## write the page of one run anew, or of all, and the index | [RUN=latest]
	@$(CLI) reports -- "$$RUN"

prune: $(VENV)/ready  ## say which old runs nothing refers to; APPLY=1 deletes them | [LAST=10] [DAYS=30] [APPLY=1]
	@$(CLI) prune --last="$${LAST:-10}" --days="$${DAYS:-30}" $(if $(call yes,$(APPLY)),--apply)

tidy: $(VENV)/ready  ## say what can go of the lake's old snapshots and files; APPLY=1 does it | [DAYS=30] [APPLY=1]
	@$(CLI) tidy --days="$${DAYS:-30}" $(if $(call yes,$(APPLY)),--apply)

##@ Models

history: $(VENV)/ready  ## every change of a registered model's aliases | MODEL=<model>
	@$(CLI) history -- "$$MODEL"

champion: $(VENV)/ready  ## which version of a model is in production, or was | MODEL=<model> [AT=2026-11-01]
	@$(CLI) champion --at="$$AT" -- "$$MODEL"

promote: $(VENV)/ready  ## put a version into production | MODEL=<model> VERSION=latest REASON="why"
	@$(CLI) promote --reason="$$REASON" -- "$$MODEL" "$$VERSION"

rollback: $(VENV)/ready  ## put the champion before this one back | MODEL=<model> [REASON="why"]
	@$(CLI) rollback --reason="$$REASON" -- "$$MODEL"

reconcile: $(VENV)/ready  ## finish changes of aliases that were cut off | [MODEL=<model>]
	@$(CLI) reconcile -- "$$MODEL"

##@ Work on the project

new: $(VENV)/ready  ## make a pipeline for tabular data that works at once | PIPELINE=wine [TASK=regression]
	@$(CLI) new --task="$$TASK" -- "$$PIPELINE"

notebooks: $(VENV)/ready  ## re-execute the committed notebooks in place | [PIPELINE=power]
	@$(CLI) notebooks -- $$PIPELINE

fast: $(VENV)/ready  ## run the quick tests, which start no kernel, on all cores
	$(BIN)/python -m pytest -q -p no:nbval -n logical --dist loadscope -m "not kernel and not slow"

regress: $(VENV)/ready  ## re-run the committed notebooks and compare their outputs (nbval)
	$(BIN)/python -m pytest --nbval --nbval-current-env notebooks

test: $(VENV)/ready  ## run every test, nbval included
	$(BIN)/python -m pytest --nbval --nbval-current-env -n logical --dist loadscope tests notebooks

format: $(VENV)/ready  ## lint and format Python files and notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/ready  ## resolve pyproject.toml anew into the lock files
	$(COMPILE) --upgrade --group dev pyproject.toml -o requirements.lock
	$(COMPILE) --group dev --extra cluster -c requirements.lock pyproject.toml -o requirements-cluster.lock

clean:  ## remove the environment; runs and data stay
	rm -rf $(VENV)
