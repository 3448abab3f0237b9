# Everything a developer or CI runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Optimised enough for real tests, quick to compile: see Cargo.toml.
PROFILE ?= ci

.PHONY: help
help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Install what the tests need, where it is missing
	@deploy/scripts/setup.sh

.PHONY: test
test: setup lint test-rust test-http2 test-sdk test-browser test-clients test-monitoring test-chart test-image ## Lint, then every test

.PHONY: lint
lint: ## rustfmt, clippy with denied warnings, cargo-deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile $(PROFILE) --workspace --all-targets --locked -- -D warnings
	$(CARGO) deny --log-level error --config .deny.toml check --hide-inclusion-graph bans licenses sources

.PHONY: test-rust
test-rust: ## Tests of the Rust crates, against a real redis-server
	$(CARGO) test --profile $(PROFILE) --workspace --locked

.PHONY: test-mixed
test-mixed: ## A fleet of two builds, side by side: OLD=path of the older binary
	FANWAY_OLD="$(abspath $(OLD))" $(CARGO) test --profile $(PROFILE) --workspace --locked --test mixed_versions -- --ignored side_by_side

.PHONY: record-mixed
record-mixed: ## Records what the older binary (OLD=path) writes, for the tests of mixed versions
	FANWAY_OLD="$(abspath $(OLD))" $(CARGO) test --profile $(PROFILE) --workspace --locked --test mixed_versions -- --ignored recording

.PHONY: test-http2
test-http2: build ## The HTTP/2 conformance suite h2spec, strict cases included
	FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway deploy/scripts/h2spec.sh

.PHONY: build
build: ## The binary that the SDK and browser tests run
	$(CARGO) build --profile $(PROFILE) --locked -p fanway-gateway

.PHONY: test-sdk
test-sdk: build ## The official JavaScript SDK against real nodes
	deploy/scripts/npm.sh deploy/e2e && cd deploy/e2e && FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway node --test --test-reporter=spec sdk/*.test.mjs

.PHONY: test-browser
test-browser: build ## EventSource and the console page in headless Chromium
	deploy/scripts/npm.sh deploy/e2e && cd deploy/e2e && FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway node --test --test-reporter=spec browser/*.test.mjs

.PHONY: test-clients
test-clients: build ## Client libraries people use (Python, npm, browsers, Go) against real nodes
	FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway deploy/scripts/clients.sh

.PHONY: test-monitoring
test-monitoring: build ## Alerts, dashboards and autoscaling formulas, against a real Prometheus
	FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway deploy/scripts/monitoring.sh

.PHONY: screenshots
screenshots: build ## Pictures of the dashboard for the documentation, from real data
	FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway deploy/scripts/monitoring.sh screenshots

.PHONY: test-chart
test-chart: build ## The Helm chart: lint, unit tests, manifests against schemas, settings against the gateway
	FANWAY_BIN=$(CURDIR)/target/$(PROFILE)/fanway deploy/scripts/chart.sh

.PHONY: test-image
test-image: ## Dockerfile, docker-compose.yml and the balancer's configuration, without running them
	deploy/scripts/image.sh

.PHONY: compose-check
compose-check: ## The image built and docker-compose.yml run for real, in namespaces of their own (needs root, Debian 12)
	deploy/scripts/compose-check.sh

.PHONY: kubernetes
kubernetes: setup build ## The chart on a real Kubernetes of two machines, built from source (needs root, Debian 12, Go)
	deploy/kubernetes/run.sh $(CHECKS)

# Connections that `make loadtest` holds; below the limit of open files, of which each side needs as many.
CONNECTIONS ?= 5000

.PHONY: loadtest
loadtest: release ## Memory, latency and integrity with $(CONNECTIONS) connections on this machine
	$(CARGO) build --release --locked -p fanway-loadtest
	for transport in websocket sse; do \
		target/release/fanway-loadtest idle --spawn target/release/fanway --quiet \
			--transport $$transport --connections $(CONNECTIONS) --connect-rate 1500; \
		target/release/fanway-loadtest fanout --spawn target/release/fanway --quiet \
			--transport $$transport --connections $(CONNECTIONS) --connect-rate 1500 --rate 10 --publications 100; \
	done

.PHONY: performance
performance: release ## Every row of the performance page; takes long (ROWS="fanout tls" for some)
	$(CARGO) build --release --locked -p fanway-loadtest
	loadtest/rows.sh $(ROWS)

.PHONY: compare-builds
compare-builds: ## Two builds in pairs: BEFORE=path AFTER=path (ROWS=fanout,sse for some); needs two quiet cores, valgrind
	$(CARGO) build --release --locked -p fanway-loadtest
	target/release/fanway-loadtest compare-builds $(if $(ROWS),--rows $(ROWS)) --json target/compare-builds.json "$(BEFORE)" "$(AFTER)"

.PHONY: autobahn
autobahn: ## The Autobahn suite against the WebSocket codec (needs python2.7)
	deploy/scripts/autobahn.sh

.PHONY: advisories
advisories: ## Known vulnerabilities of dependencies (needs the network)
	$(CARGO) deny --config .deny.toml check advisories

.PHONY: release
release: ## The optimised binary
	$(CARGO) build --release --locked -p fanway-gateway
