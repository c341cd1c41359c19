# The course and its tests, each in one command. `make` alone lists them.

PYTHON ?= python3
PROFILE ?= teaching
# With the profiles of a GPU, a notebook has it to itself.
JOBS ?= $(if $(filter gpu paper,$(PROFILE)),1,2)
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
BOOK_STAMP := .venv/.installed-book

# Threads that wait for each other soon sleep, also where torch is loaded before s2dc_core, whose threads.py says more.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 1000
export KMP_BLOCKTIME ?= 1
endif

.PHONY: help notebooks test test-browser lab book study bench lint format

help:
	@echo "make notebooks   run every notebook; results in outputs/   (PROFILE=ci|teaching|gpu|paper, JOBS=1 one at a time, ARGS='--only 01')"
	@echo "make test        run every test, the notebooks in seconds among them   (ARGS='-k geometry')"
	@echo "make test-browser   click in the explorers, in JupyterLab and Chromium (Debian: apt-get install chromium), and in the book; results in outputs/browser"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make book        build the site of notebooks and reference; results in outputs/book/html   (runs first what has not run)"
	@echo "make study       train the shipped weights again and measure what they give (13 to 18 hours, 6 to 11 of them for the comparison of all methods); results in outputs/study   (with S2DC_DATA also real scans)"
	@echo "make bench       measure the structure losses, Sinkhorn, the step, and trainings side by side (over an hour)   (ARGS='--sizes 432 1728')"
	@echo "make lint        check the form of code and notebooks"
	@echo "make format      mend it: format the code, strip the notebooks' outputs"
	@echo "Each makes .venv first if it is missing, with PYTHON=$(PYTHON)."

notebooks: $(STAMP)
	$(BIN)/python notebooks/run.py --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

# Files side by side, as the tests of one file may share what they made.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

# Only this computer can reach it, and only with the token in the address that it prints.
lab: $(STAMP)
	$(BIN)/python -m jupyterlab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks $(ARGS)

# Runs the notebooks first that have not run as they are now, unless ARGS='--executed FOLDER' has them. With BOOK_URL, the
# address where the site will be, a link to a page is shown with a picture where it is shared.
book: $(BOOK_STAMP)
	$(BIN)/python -m book.build --profile $(PROFILE) $(ARGS)

# What lies in outputs/study already is kept, so an interrupted study goes on.
study: $(STAMP)
	$(BIN)/python -m s2dc_core.studies arms outputs/study --install $(ARGS)
	$(BIN)/python -m s2dc_core.studies transfer outputs/study/transfer --install
	$(BIN)/python -m s2dc_core.studies lungs outputs/study/lungs --install
	$(BIN)/python -m s2dc_core.studies ablation outputs/study/ablation --install
	$(BIN)/python -m s2dc_core.studies published_matches outputs/study/matches --install
	$(BIN)/python -m s2dc_core.studies another_patient outputs/study/patients --install $${S2DC_DATA:+--data "$$S2DC_DATA"}
	$(BIN)/python -m s2dc_core.studies methods outputs/study/methods --install $${S2DC_DATA:+--data "$$S2DC_DATA"}
	[ -z "$$S2DC_DATA" ] || $(BIN)/python -m s2dc_core.studies real_scans outputs/study "$$S2DC_DATA" --install
	[ -z "$$S2DC_DATA" ] || $(BIN)/python -m s2dc_core.studies few_labels outputs/study/few_labels "$$S2DC_DATA" --install
	$(BIN)/python -m s2dc_core.studies.pages write

bench: $(STAMP)
	$(BIN)/python benchmarks/matching.py $(ARGS)
	$(BIN)/python benchmarks/sinkhorn.py $(ARGS)
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/contention.py
	$(BIN)/python benchmarks/patients.py

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest -q tests/notebooks/test_hygiene.py

format: $(STAMP)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .
	$(BIN)/python -m nbstripout --keep-id --extra-keys 'metadata.papermill cell.metadata.papermill' notebooks/*.ipynb

# The stamp is written last, so an installation that was interrupted starts again.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ". Name a newer one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint requirements.lock --editable '.[notebooks,dev]'
	@touch $(STAMP)

$(BOOK_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint requirements.lock --editable '.[notebooks,dev,book]'
	@touch $(BOOK_STAMP)
