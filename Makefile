# make demo    environment, install, a first fine-tuning and evaluation from beginning to end on the embedded data
# make test    environment, install with test extras, style check, the whole test suite
# make book    environment, every run of the embedded reproduction that is out of date, the book built and checked; resumable
# make pdf     the built book as one PDF, printed by Chromium (CHROMIUM=PATH names one)
# make lint    style check alone
# make format  rewrite the files in the project's style
# make clean   remove what these commands wrote, except .venv and everything under runs/ other than runs/demo
#
# PYTHON=python3.12 make demo chooses the interpreter (3.11 or newer) that .venv is made with. Nothing outside this folder
# is written: caches and settings of pip, Jupyter, Hugging Face and matplotlib go to .cache/.

PYTHON ?= python3
WORKERS ?= 2
JOBS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python -m
CACHE := $(CURDIR)/.cache

export HF_HOME := $(CACHE)/huggingface
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter/config
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CACHE)/jupyter/runtime
# The kernel `python3` is this environment's, whatever kernels the user has installed elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export MPLCONFIGDIR := $(CACHE)/matplotlib
export TORCH_HOME := $(CACHE)/torch
export TORCHINDUCTOR_CACHE_DIR := $(CACHE)/torchinductor
export TRITON_CACHE_DIR := $(CACHE)/triton
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR ?= $(CACHE)/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PRE_COMMIT_HOME := $(CACHE)/pre-commit
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME JUPYTER_PATH

.DELETE_ON_ERROR:
.PHONY: help demo test book pdf lint format clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# The stamps are written last, so that an interrupted step is repeated.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11 or absent; choose another one: PYTHON=python3.12 make ..." >&2; exit 1; }
	$(RUN) pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ echo "no environment could be made; Debian and Ubuntu need: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[book]'
	@touch $(VENV)/.demo $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $(VENV)/.demo $(VENV)/.book $@

demo: $(VENV)/.demo
	@mkdir -p runs/demo .cache/ipython
	@echo "Training takes one to three minutes on two idle cores. The bar below counts the notebook's cells, not the steps."
	$(RUN) papermill notebooks/stage2_vqa.ipynb runs/demo/stage2_vqa.ipynb -p output_dir runs/demo
	$(RUN) nbconvert --log-level ERROR --to html --embed-images runs/demo/stage2_vqa.ipynb --output-dir runs/demo --output stage2_vqa
	@echo
	@echo "Executed notebook: runs/demo/stage2_vqa.ipynb"
	@echo "The same as HTML:  runs/demo/stage2_vqa.html"
	@echo "Run folder:        runs/demo"

# Half an hour the first time on two cores; what is finished is not repeated. Jobs use one thread each, JOBS at once.
book: $(VENV)/.book
	@mkdir -p .cache/ipython
	$(RUN) codespell_lib book notebooks
	$(RUN) snakemake --profile workflow/profiles/local --cores $(JOBS)
	$(VENV)/bin/jupyter-book build . -n -W --keep-going
	$(VENV)/bin/python workflow/check_book.py
	@echo
	@echo "The book:  _build/html/index.html"

pdf: $(VENV)/.book
	@test -d _build/html || { echo "no built book; run make book first" >&2; exit 1; }
	$(VENV)/bin/python workflow/print_pdf.py

lint: $(VENV)/.test
	$(RUN) ruff check .
	$(RUN) ruff format --check .

# One thread for each worker: more of them on the same cores make the suite slower.
test: lint
	OMP_NUM_THREADS=1 $(RUN) pytest -q --numprocesses $(WORKERS) --dist loadfile

format: $(VENV)/.test
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf .cache .pytest_cache .ruff_cache .snakemake _build book/_runs build dist runs/demo *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
