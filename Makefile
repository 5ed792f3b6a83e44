# Sets up a virtual environment in .venv when pyproject.toml asks for another one, then does one thing.

# One BLAS thread per process: the networks are small, and the processes already fill the cores.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

# The first of these that runs; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done)
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo seek evidence evidence-next soak test lint

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Train, export and adapt an arm that reaches through a crooked camera, into runs/demo
	$(VENV)/bin/python scripts/demo.py --act reach --out runs/demo

seek: $(READY) ## The same with measured reward as the only teacher, into runs/seek
	$(VENV)/bin/python scripts/demo.py --act seek --out runs/seek

evidence: $(READY) ## Make the pages in docs/ anew from the verdicts in docs/evidence
	$(VENV)/bin/python scripts/evidence.py

evidence-next: $(READY) ## Train and judge the next missing cell of docs/evidence, then make the pages
	$(VENV)/bin/python scripts/evidence.py --cells 1

soak: $(READY) ## Keep 50, 200 and 500 Hz for ten minutes each, with and without adapting, into docs/results
	$(VENV)/bin/python scripts/soak.py

test: $(READY) ## Set up and run the tests, on two cores
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(READY) ## Set up and check format, style and types
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

$(READY): pyproject.toml
	@python=$(VENV)/bin/python; test -x $$python || python="$(PYTHON)"; \
	test -n "$$python" || { echo "No Python found: install Python 3.10 or 3.11, or make PYTHON=..." >&2; exit 1; }; \
	$$python -c 'import sys; found = sys.version_info[:2]; (3, 10) <= found <= (3, 11) or sys.exit( \
	"%s is Python %d.%d, but PyBullet has wheels for 3.10 and 3.11 here: install one of those, " \
	"remove .venv if there is one, and make PYTHON=..." % (sys.executable, *found))'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(VENV)/bin/python -m pip install -e '.[train,sim2sim,dev]'
	touch $@
