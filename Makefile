# Everything happens in .venv, which each target makes and fills as it needs (.ci/venv).

PYTHON ?= python3
export PYTHON
PY := .venv/bin/python
CHAOS_CUTS := $(addprefix tests/integration/,test_chaos_cut.py test_lock_chaos_cut.py test_beat_chaos_cut.py)

# Many tests wait for a lease to end: more of them at once than there are processors. The files that take longest, those of
# workers, come first.
TESTS := -n 5 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(CHAOS_CUTS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo serve test chaos-cuts coverage lint unit integration chaos chaos-claims chaos-locks beat-chaos bench endings matrix matrix-corners celery-suite docs tutorial screenshots build clean

help:  ## list the targets
	@echo "make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14 | sed 's/^/  /'

demo:  ## a shop with a real worker, driven through its own pages, ends with a table of what happened
	@.ci/venv demo
	@$(PY) -m example_project.demo

serve:  ## the shop, its worker and beat left running; prints the address
	@.ci/venv demo
	@$(PY) -m example_project.serve

test:  ## lint, types, unit and integration tests on real servers
	@.ci/install-servers
	@.ci/venv test lint docs
	@.ci/lint & lint=$$!; .ci/docs && wait $$lint
	@echo "==> unit and integration tests"
	@$(PY) -m pytest $(TESTS)

chaos-cuts:  ## two minutes of chaos: claims, locks and beat, one after the other
	@.ci/install-servers
	@.ci/venv test
	@echo "==> cuts of chaos"
	@$(PY) -m pytest $(CHAOS_CUTS)

coverage:  ## the tests of `test`, and which lines they reach: takes twice as long
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m pytest $(TESTS) --cov --cov-report=term

lint:  ## ruff, mypy, import-linter
	@.ci/venv lint
	@.ci/lint

unit:  ## the tests without workers
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m pytest tests/unit

integration:  ## the tests on real servers and workers
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m pytest tests/integration

chaos: chaos-claims chaos-locks  ## ten minutes each of killed and frozen processes and stores: claims, locks on Redis, on ZooKeeper

chaos-claims:  ## the first of these; a checker reads the histories
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.chaos --minutes 10 --kills 100

chaos-locks:  ## the others
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.lock_chaos --store redis --minutes 10 --kills 100
	@$(PY) -m tests.lock_chaos --store zookeeper --minutes 10 --kills 100

beat-chaos:  ## ten minutes of killed and frozen beats and stores, beside Celery's beat (and redbeat)
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.beat_chaos --minutes 10 --peers --peer-minutes 3 $(BEAT_CHAOS)

bench:  ## what everything costs, beside its peers: PEERS=ours,plain MEASURES=enqueue,locks QUICK=1 BLOCK=5000; writes docs/benchmarks/
	@.ci/install-servers
	@.ci/venv bench
	@$(PY) -m benchmarks $(if $(PEERS),--peers $(PEERS)) $(if $(MEASURES),--measures $(MEASURES)) $(if $(QUICK),--quick) $(if $(BLOCK),--block $(BLOCK))

endings:  ## how soon each ending settles a claim, by pool and Celery version
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.endings

matrix:  ## one scenario on all brokers, result backends, caches, pools and versions, tests/unit in all versions: hours; writes docs/matrix.md
	@.ci/install-servers
	@.ci/venv matrix
	@$(PY) -m tests.matrix $(MATRIX)

matrix-corners:  ## a few cells of it: every broker, oldest and newest versions
	@.ci/install-servers
	@.ci/venv matrix
	@echo "==> corners of the matrix"
	@$(PY) -m tests.matrix --corners

celery-suite:  ## Celery's own tests, with DjangoTask as the class of every task
	@.ci/venv test
	@$(PY) -m tests.celery_suite

docs:  ## the documentation in docs/_build/html; warnings are errors
	@.ci/venv docs
	@.ci/docs
	@echo "==> docs/_build/html/index.html"

tutorial:  ## walk docs/tutorial.md in an empty virtual environment
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.tutorial

screenshots:  ## the pictures in README and docs, with a headless Chromium
	@.ci/install-servers
	@.ci/venv test
	@$(PY) -m tests.screenshots

build:  ## sdist and wheel in dist/, checked; the wheel is installed into an empty environment and used
	@.ci/venv package
	@echo "==> building dist/"
	@rm -rf build dist
	@$(PY) -m build --outdir dist
	@$(PY) -m twine check --strict dist/*
	@echo "==> the wheel in an empty environment"
	@$(PY) -m tests.release

clean:  ## remove .venv and everything that was made
	@echo "==> removing .venv, build/, dist/ and caches"
	@rm -rf .venv .bench .tox docs/_build build dist *.egg-info htmlcov .coverage .coverage.* .hypothesis
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
