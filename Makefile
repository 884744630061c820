# Every job of the project; each does the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPORT := build/report
# `make bench MACHINE=NAME` files results under this name in place of the host's.
FILED := $(if $(MACHINE),--machine $(MACHINE))

.DEFAULT_GOAL := help
.PHONY: help install check format test test-full bench bench-figure bench-full bench-backends \
	bench-learning traces published report clean

help: ## list the jobs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The stamp stands for "installed under these pins"; changing either file installs anew.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet -c constraints.txt hnswlib >/dev/null 2>&1 \
		|| echo "hnswlib was left out, as it did not build (it needs a C++ compiler): no backend hnsw"
	touch $@

install: $(VENV)/.installed ## make .venv and install the project with its tools

check: $(VENV)/.installed ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(VENV)/.installed ## the fast tests, one process per core
	$(BIN)/python -m pytest -n auto --dist worksteal

test-full: $(VENV)/.installed ## every test, the slow ones and the measurements too
	$(BIN)/python -m pytest -m 'slow or not slow'

bench: $(VENV)/.installed ## measure this code, quick profile (ten minutes), and write the report
	@echo "The report will be at $(REPORT)/index.html"
	$(BIN)/python asv_bench/run.py --profile quick $(FILED)
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

bench-figure: $(VENV)/.installed ## measure the paper's Figure 1 up to a million words, and report
	@echo "The report will be at $(REPORT)/index.html"
	$(BIN)/python asv_bench/run.py --profile figure $(FILED)
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

bench-full: $(VENV)/.installed ## measure every point that fits this machine (hours), and report
	@echo "The report will be at $(REPORT)/index.html"
	$(BIN)/python asv_bench/run.py --profile full $(FILED)
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

bench-backends: $(VENV)/.installed ## measure recall against cost, and wear, of every index, and report
	@echo "The report will be at $(REPORT)/index.html"
	$(BIN)/python -m asv_bench.frontier $(FILED)
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

bench-learning: $(VENV)/.installed ## train SAM with every index (minutes), and report the loss curves
	$(BIN)/python -m asv_bench.learning.curves $(FILED)
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

traces: $(VENV)/.installed ## record what SAM in training asks of its index, 65,536 words (quarter of an hour)
	$(BIN)/python -m asv_bench.learning.traces

published: $(VENV)/.installed ## train the published learning results again (days; goes on where it was stopped)
	$(BIN)/python -m sam sweep --config reports/published/learning.toml --out .asv/learning
	$(BIN)/python -m sam sweep --config reports/published/babi.toml --out .asv/learning
	$(BIN)/python -m sam sweep --config reports/published/omniglot.toml --out .asv/learning
	$(BIN)/python -m reports learning .asv/learning --out reports/published/learning

report: $(VENV)/.installed ## write the report from what has been measured
	$(BIN)/python -m reports build .asv/results --out $(REPORT)

clean: ## remove what was built (.venv and results stay)
	rm -rf build dist *.egg-info
