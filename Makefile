# make demo   create .venv, install, compare three policies on four GPUs, draw a picture
# make test   create .venv, install everything, run the tests with coverage
# make bench        measure speed, beside other simulators too, and write docs/performance.md
# make conformance  compare the engine, tiers and routers with real serving code; docs/conformance.md
# make docs         build the documentation site in build/site; make docs-serve shows it
# make pure-wheel compiled-wheels  what a release consists of, in dist/
# make compiled     compile the kernel; make interpreted removes what was compiled
# The first run downloads; later runs start at once until pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST_WORKERS ?= 2

.PHONY: demo test test-log test-compiled compiled interpreted check docs docs-serve docs-outputs docs-pictures docs-check training-results learning-results leaderboard leaderboard-page bench bench-speed bench-peers conformance pure-wheel compiled-wheels clean

demo: $(VENV)/.demo-ready
	$(BIN)/agentserve demo

# One thread a worker: two workers share two cores. Tests marked no_cover play whole simulations,
# which measuring coverage makes twice as slow: coverage is of the tests of single parts, and
# sees interpreted code alone.
test: $(VENV)/.test-ready
	AGENTSERVE_KERNEL=interpreted OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	  -n $(PYTEST_WORKERS) --dist worksteal \
	  --cov=agentserve_gym --cov-fail-under=90 --cov-report=term:skip-covered

# The same tests on the compiled kernel; they end at once where another one would run.
test-compiled: compiled
	AGENTSERVE_KERNEL=compiled OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	  -n $(PYTEST_WORKERS) --dist worksteal

# Logging to Weights & Biases and MLflow, whose packages (160 MB) the other tests do without.
test-log: $(VENV)/.test-ready
	$(PIP) --editable '.[log]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/tracking

# Does nothing where the kernel is compiled from the sources as they are.
compiled: $(VENV)/.test-ready
	@AGENTSERVE_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --build-lib .
	@AGENTSERVE_KERNEL=compiled $(BIN)/agentserve --version

interpreted:
	rm -rf agentserve_gym/_compiled

check: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# Broken links, names that nothing has and requests to elsewhere are errors.
docs: $(VENV)/.test-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(VENV)/.test-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

# What the commands in tutorials and guides print, and the moving pictures of environments.
docs-outputs: compiled
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.site.snippets

docs-pictures: $(VENV)/.test-ready
	$(BIN)/python -m tools.site.pictures

# Whether generated pages are what this version computes (a few minutes; needs the data sets).
docs-check: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.docs_check

# Trains (about 10 minutes, kept in runs/documents) and writes docs/training-results.md.
training-results: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.training_results

# Judges the learned policies (kept in runs/learning) and writes docs/learning.md.
learning-results: compiled
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.learning_results

# Submissions of all policies that come with the package to leaderboard/ (half an hour; those that are
# there stay, unfinished ones are kept in runs/leaderboard), and docs/leaderboard.md from its files.
leaderboard: compiled
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.leaderboard

leaderboard-page: $(VENV)/.test-ready
	$(BIN)/python -m tools.leaderboard --page

# Results are kept in runs/benchmarks; each of the two also writes docs/performance.md anew.
bench: bench-peers bench-speed

bench-speed: compiled
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.both

bench-peers: compiled
	$(BIN)/python -m benchmarks.peers

# vLLM's own scheduler and SGLang's caches on a CPU, each in an environment of its own (2 GB each;
# the run takes some minutes).
conformance: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m conformance

# A source distribution, the wheel made from it, and a run of that wheel in an empty folder, in an
# environment of its own.
pure-wheel: $(VENV)/.created
	$(PIP) build
	@rm -rf dist/pure build/wheel-check && mkdir -p build/wheel-check/empty
	$(BIN)/python -m build --outdir dist/pure
	@$(PYTHON) -m venv build/wheel-check/venv
	build/wheel-check/venv/bin/python -m pip install -qq --disable-pip-version-check \
	  -c constraints.txt dist/pure/*.whl
	cd build/wheel-check/empty && ../venv/bin/agentserve --version && \
	  ../venv/bin/agentserve run --scenario toy --policy lru

# One for each Python, for this machine's platform; needs Docker on Linux. Each is tried.
compiled-wheels: $(VENV)/.created
	$(PIP) cibuildwheel
	@rm -rf dist/compiled
	$(BIN)/python -m cibuildwheel --output-dir dist/compiled

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv module is missing; on Debian: sudo apt install python3-venv" >&2; exit 1; }
	@# Dependency groups need pip 25.1.
	@echo "Setting up $(VENV) (once; takes a minute or more)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo-ready: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) --editable '.[plot]'
	@touch $@

# torch first: the pinned build, before anything may ask for a newer one.
$(VENV)/.test-ready: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[train,plot,trace,scale]' --group dev --group docs
	@touch $@ $(VENV)/.demo-ready

clean: interpreted
	rm -rf build dist $(VENV) benchmarks/.venv-peers conformance/.venv-* demo .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
