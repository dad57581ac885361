# `make run` and `make test` work on a bare machine with Python >= 3.10: each makes .venv first.
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run reproduce test test-slow test-all test-faults check bench docs dist setup clean

run: $(VENV)/installed
	$(BIN)/pigen run pigen_mled_c --out runs/pigen_mled_c --force

# Every table and figure of the paper; SCALE is smoke, laptop or paper (docs/reproduce.md).
SCALE ?= laptop
reproduce: $(VENV)/installed
	$(BIN)/pigen reproduce --scale $(SCALE) --out reproduce/$(SCALE) $(REPRODUCE_ARGS)

# Minutes: every stage once on real crystals, and all that takes seconds.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Whole runs, training, CHGNet against its makers' code, the built wheel; not what is in test-faults.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow -k "not first_hour" $(FAULTS:%=--ignore=%)

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m ""

# Kills, full disks, hostile files, Dask workers that are lost (docs/resilience.md); minutes, on a
# quiet machine. PIGEN_KILLS=100 kills more often.
FAULTS := tests/faults tests/runtime/test_cluster.py
test-faults: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(FAULTS) -m slow

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_docstrings.py

# DATA is the folder of real structures that the tests use too (PIGEN_TEST_DATA).
DATA ?= ../shared/data
bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/descriptors.py --data $(DATA)
	$(BIN)/python benchmarks/spp.py --data $(DATA)
	$(BIN)/python benchmarks/prototypes.py --data $(DATA)
	$(BIN)/python benchmarks/filter.py --data $(DATA)
	$(BIN)/python benchmarks/hull.py --data $(DATA)
	$(BIN)/python benchmarks/read_cif.py $(DATA)/mp20/test.csv.gz
	$(BIN)/python benchmarks/train.py $(DATA)/mp20/train.csv.gz
	$(BIN)/python benchmarks/sample.py
	$(BIN)/python benchmarks/relax.py
	$(BIN)/python benchmarks/csp.py
	$(BIN)/python benchmarks/executor.py --data $(DATA)

# The pages of docs/, two of them written from the code; the site goes to build/site.
docs: $(VENV)/installed-docs
	$(BIN)/python -m pigen.config.reference > docs/experiments.md
	$(BIN)/python -m pigen.cli.reference > docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Wheel and sdist, in dist.
dist: $(VENV)/installed-dev
	$(BIN)/python -m build --no-isolation --outdir dist

setup: $(VENV)/installed-dev

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Installed again only when the requirements change: the package itself is installed editable.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@ $(VENV)/installed
