# Tidewire's commands. Each sets up what it needs by itself, in ignored folders of the repository.
# The steps are in scripts/; settings such as PORT=9000 reach them through the environment.

PORT ?= 8787
STATE ?= .state/dev
ENV_FILE ?= .dev.vars
SECONDS ?= 600
export PORT STATE ENV_FILE

.DEFAULT_GOAL := help
.PHONY: help setup build dev test bench fuzz mutants torture check doctor deploy clean distclean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Fetch the pinned tools (the other targets do it too)
	@scripts/setup.sh

build: setup ## Build the npm package, the demo and both Workers
	@scripts/build.sh

dev: build ## Run both Workers at one URL [PORT=8787] [STATE=.state/dev] [ENV_FILE=.dev.vars]
	@exec scripts/dev.sh

test: build ## Run all tests: native ones, those in the Workers' own runtime, and a little fuzzing
	@scripts/test.sh

bench: build ## Measure Tidewire beside its peers, and write docs/performance.md (40 minutes)
	@scripts/bench.sh

fuzz: ## Fuzz the decoders and the engine [SECONDS=600] [TARGET=one of them]
	@scripts/fuzz.sh $(SECONDS) $(TARGET)

mutants: setup ## Break one promise at a time and demand that the model test fails
	@scripts/mutants.sh

torture: build ## Models, convergence, evictions, storms, scale and an hour's soak in workerd [SEED=] [MINUTES=]
	@scripts/torture.sh

check: build ## Formatting, lints, documentation, licences, and both deployments as a dry run
	@scripts/check.sh

doctor: setup ## Say what is wrong or risky in the settings [URL= TIDEWIRE_KEY= SPACE=global STRICT=1]
	@scripts/doctor.sh

deploy: build ## Deploy both Workers to Cloudflare, the sync Worker first
	@scripts/deploy.sh

clean: ## Delete build output and local state; keep the fetched tools
	@rm -rf target fuzz/target app-worker/build* app-worker/demo/page.html sync-worker/build* examples/*/build* client/dist .wrangler .state

distclean: clean ## Delete the fetched tools too
	@rm -rf .tools node_modules bench/node_modules bench/livestore/node_modules
