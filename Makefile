# Every command of the house. Run as root on Debian; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# One folder outside the tree for everything expensive: upstream binaries, images, tools and Rust build output.
export SELVAGE_CACHE ?= /var/cache/selvage
export CARGO_TARGET_DIR ?= $(SELVAGE_CACHE)/target
export PATH := $(SELVAGE_CACHE)/tools/bin:$(PATH)

# The house's programs, run without cargo, which waits while another cargo builds; each is told which tree it is for.
PROGRAMS := $(CARGO_TARGET_DIR)/debug
BED := env CARGO_MANIFEST_DIR=$(CURDIR)/e2e $(PROGRAMS)/selvage-bed
SCENARIOS := env CARGO_MANIFEST_DIR=$(CURDIR)/e2e $(PROGRAMS)/selvage-scenarios
XTASK := env CARGO_MANIFEST_DIR=$(CURDIR)/xtask $(PROGRAMS)/xtask
export SELVAGE_XTASK := $(PROGRAMS)/xtask
CARGO_DENY_VERSION := 0.20.2

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

# With a test among them, cargo takes the crates' features for those of `cargo test`, and nothing is compiled twice.
.PHONY: programs
programs:
	if [ -z "$${SELVAGE_PROGRAMS_BUILT:-}" ]; then
	  cargo build --quiet --workspace --test bed --bin xtask
	fi

.PHONY: setup
setup: programs ## install Debian packages, build the pinned upstream binaries and images (cached)
	$(BED) setup

.PHONY: images
images: programs ## build the operator's and the agent's images
	cargo build --release --package selvage-operator --package selvage-node-agent
	$(XTASK) images

.PHONY: install-yaml
install-yaml: programs ## render out/install.yaml for kubectl apply
	$(XTASK) install-yaml

# ---- a cluster to play with -------------------------------------------------------------------------------------

.PHONY: demo
demo: setup images ## a three-node cluster, Selvage installed, and the walkthrough
	$(BED) up
	$(SCENARIOS) install
	$(SCENARIOS) walkthrough

.PHONY: demo-down
demo-down: programs ## remove every trace of the demo
	$(BED) down

# ---- checks, from the quickest on --------------------------------------------------------------------------------

.PHONY: fmt clippy unit generated doc deny
fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

unit:
	cargo test --workspace --lib --bins

generated: programs
	$(XTASK) check

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

$(SELVAGE_CACHE)/tools/bin/cargo-deny-$(CARGO_DENY_VERSION):
	CARGO_TARGET_DIR=$(SELVAGE_CACHE)/tools/build cargo install --locked --debug --root $(SELVAGE_CACHE)/tools \
	  cargo-deny --version $(CARGO_DENY_VERSION)
	rm -rf $(SELVAGE_CACHE)/tools/build
	ln -sf cargo-deny $@

# Without a way to the advisory database the rest is still checked, and the gap is said; where there is one, as in a
# public CI, SELVAGE_ADVISORIES=required makes a database out of reach a failure.
deny: $(SELVAGE_CACHE)/tools/bin/cargo-deny-$(CARGO_DENY_VERSION)
	cargo deny check licenses bans sources
	if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
	  cargo deny check advisories
	elif [ "$${SELVAGE_ADVISORIES:-}" = required ]; then
	  echo "advisories: the database can't be reached" >&2; exit 1
	else
	  echo "advisories: NOT CHECKED, the database can't be reached from here"
	fi

.PHONY: check
check: fmt clippy unit generated ## the fast part, without a cluster: the minute before a commit

.PHONY: kernel
kernel: ## ruleset, netlink and real packets in network namespaces (root)
	cargo test --package selvage-nftables --package selvage-node-agent

.PHONY: tests
tests: ## every cargo test: unit, property, golden, mock API, kernel, chart, API server, test bed (root)
	cargo test --workspace --tests

.PHONY: cluster
cluster: programs ## the scenarios and the upstream suite on clusters of its own, VXLAN and host-gw
	exec $(SCENARIOS) all --backend both

.PHONY: test
test: ## every test there is, with a table of how long each stage took
	cargo build --quiet --workspace --test bed --bin xtask
	exec $(XTASK) stages --built-in $$SECONDS

.PHONY: mutants
mutants: programs ## put deliberate faults into a copy of the tree, and see that the tests notice each (about ten minutes on two cores)
	$(XTASK) mutants

# ---- speed ------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: programs ## benchmarks as JSON lines, beside the stored baseline
	$(XTASK) bench

.PHONY: bench-cluster
bench-cluster: programs ## latencies and memory on the demo cluster, as JSON lines
	$(SCENARIOS) bench-cluster
