# What a person or CI runs; `make help` lists it.
#   LAB=local|single|pair  the lab's inventory, for up, down, lab-*
#   ENV=…                  an inventory, for plan, deploy, verify, dns, secrets
#   LIMIT="mx1 store"      hosts or groups, for plan, deploy, verify
#   REMOVALS=N             lock or close so many mailboxes, as the plan of the registry showed

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

LAB ?= local
HOST ?= mx1
PYTHON := .venv/bin/python
VENV := .venv/.installed

# An environment must be named: none is a safe default.
environment = $(if $(ENV),$(ENV),$(error ENV is not set; expected one of \
	$(patsubst inventories/%/site.toml,%,$(wildcard inventories/*/site.toml)), such as ENV=staging))
limit = $(foreach name,$(LIMIT),--limit $(name)) $(if $(REMOVALS),--removals $(REMOVALS))
# Installs Debian packages; for what follows `||`.
install = { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	apt-get -qq install -y --no-install-recommends $(1); } >&2

##@ The lab

up: $(VENV) ## build the lab, deploy the whole stack, check it, say how to log in
	$(PYTHON) -m tests.lab up --env $(LAB) --instance up
	$(PYTHON) -m deploy.run apply site --env $(LAB)
	ENV=$(LAB) $(PYTHON) -m pytest -q tests/hosts
	$(PYTHON) -m tests.lab welcome --env $(LAB)

down: $(VENV) ## remove the lab and all it left (KEEP=1: not the base image, for the next `up`)
	$(PYTHON) -m tests.lab down --env $(LAB) $(if $(KEEP),--keep)

lab-info: $(VENV) ## print the lab as JSON, for tools
	@$(PYTHON) -m tests.lab info --env $(LAB)

lab-shell: $(VENV) ## open a shell on HOST=mx1
	@$(PYTHON) -m tests.lab shell --env $(LAB) $(HOST)

##@ Any environment

plan: $(VENV) ## show what a deploy would change; fails with 2 when something would
	@$(PYTHON) -m deploy.run plan site --env $(environment) $(limit)

deploy: $(VENV) ## deploy
	@$(PYTHON) -m deploy.run apply site --env $(environment) $(limit)

accounts-plan: $(VENV) ## show, unit by unit, what the registry would change; fails with 2 as `plan`
	@$(PYTHON) -m deploy.run plan accounts --env $(environment) $(limit)

accounts: $(VENV) ## bring the registry into the directory
	@$(PYTHON) -m deploy.run apply accounts --env $(environment) $(limit)

backup-status: $(VENV) ## how each host's backups stand; fails with 2 where there is an alarm
	@$(PYTHON) -m deploy.backup --env $(environment) status

backup: $(VENV) ## back every host up now (LIMIT="store1": some)
	@$(PYTHON) -m deploy.backup --env $(environment) now $(foreach name,$(LIMIT),--limit $(name))

verify: $(VENV) ## test the hosts, read-only
	ENV=$(environment) LIMIT="$(LIMIT)" $(PYTHON) -m pytest tests/hosts

dns: $(VENV) ## print what the public DNS must hold, as lines of a zone
	@$(PYTHON) -m deploy.dns --env $(environment)

secrets: $(VENV) ## make or complete the environment's secrets
	@$(PYTHON) -m deploy.secrets $(environment)

##@ The proof

check: tools ## style, types, scripts, unit tests: no lab
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	git grep -lE '^#!/bin/(ba)?sh' -- ':!*.j2' | xargs shellcheck
	$(PYTHON) -m docs.generate --check
	mkdir -p .cache/reports && $(PYTHON) -m pytest -q --junitxml=.cache/reports/unit.xml

tools: $(VENV)
	@command -v shellcheck >/dev/null && command -v nft >/dev/null || $(call install,shellcheck nftables)

test: $(VENV) ## everything, in a lab of its own; what CI runs
	$(PYTHON) -m tests.run

drill: $(VENV) ## lose a whole site full of mail, restore it and compare, in a lab of its own
	$(PYTHON) -m tests.run drill

browser: $(VENV) ## the webmail in a real Chromium, in the lab that is up
	ENV=$(LAB) $(PYTHON) -m pytest -q tests/browser

bench: $(VENV) ## measure, and print ratios
	$(PYTHON) -m tests.bench

soak: $(VENV) ## the long tests
	$(PYTHON) -m tests.faults.soak

##@ The project

docs: $(VENV) ## write the generated pages
	$(PYTHON) -m docs.generate

lock: $(VENV) ## pin the dependencies of pyproject.toml, with hashes
	$(PYTHON) -m pip install --quiet uv
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
		--generate-hashes --no-header --no-annotate --upgrade -o requirements.lock pyproject.toml

help: ## list this
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@sed -n 's/^#   /  /p' Makefile

# Standard output belongs to the targets: `make lab-info | jq`.
$(VENV): requirements.lock pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || $(call install,python3-venv)
	@echo 'installing the Python packages of requirements.lock into .venv' >&2
	@python3 -m venv .venv
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements.lock >&2
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e . >&2
	@touch $@

.PHONY: up down lab-info lab-shell plan deploy accounts-plan accounts backup-status backup verify dns secrets check tools test drill browser bench soak docs lock help
