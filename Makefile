# The commands of this repository. `make` alone lists them.

SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := .venv
PIPECAT := e2e/pipecat/.venv
MATRIX := e2e/matrix
# An environment for each file of pins there.
MATRIX_VENVS := $(patsubst $(MATRIX)/python/%.txt,$(MATRIX)/.venv-%/ok,$(wildcard $(MATRIX)/python/*.txt))
DENY := 0.20.2
MACHETE := 0.9.2
FUZZ := 0.13.2
ABOUT := 0.9.3
CYCLONEDX := 0.5.9
BENCH_VENV := benches/.venv
LICENCES := THIRD-PARTY-LICENSES.txt
FUZZ_SECONDS ?= 20
# Crates in the tree of the core, itself included: a new one wants a reason.
CORE_TREE := 37
# Of lint, unit tests and the receiver's tests of features. The black box has what is shipped.
FEATURES := --features otlp,parquet,s3

.PHONY: help demo demo-page call build release reproducible test lint container licences sbom advisories schema bench bench-receiver benchmark counts counts-accept profile soak scale unit featured black-box what-failed soak-short scale-short build-last unit-built lint-plain \
	deploy-check environments clients clients-check foreign pages pictures page-weight matrix fuzz tools node-modules accuracy clean

help: ## lists the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# All three name the same packages: for other packages cargo would choose other features, and compile anew.
DEMO := $(CARGO) build --locked -p call-history -p lab --bin call-history --bin demo
demo: ## one call, from the first ring to the posted record, on this machine alone
	@[ -x $(TARGET)/debug/demo ] || echo "compiling, which takes 3 to 6 minutes the first time"
	@$(DEMO)
	@$(abspath $(TARGET))/debug/demo

demo-page: ## the same, with a week of sample calls, and the pages stay open to look at
	@[ -x $(TARGET)/debug/demo ] || echo "compiling, which takes 3 to 6 minutes the first time"
	@$(DEMO)
	@$(abspath $(TARGET))/debug/demo --stay

call: ## one scripted call on the server of .env, for a worker of yours to see
	@[ -x $(TARGET)/debug/demo ] || echo "compiling, which takes 3 to 6 minutes the first time"
	@$(DEMO) --bin call
	@$(abspath $(TARGET))/debug/call

# With a test among the targets, so that cargo chooses the same features as for the tests, and builds nothing twice.
build: ## debug binaries of everything, and the black-box tests
	$(CARGO) build --locked --workspace --bins --test it --test page

# No path of this machine is in the binary, so that the same source gives the same bytes in any folder.
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)
RELEASE := RUSTFLAGS="--remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(CARGO_FOLDER)=cargo" \
	CFLAGS="-ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(CARGO_FOLDER)=cargo" \
	$(CARGO) build --locked --release
release: ## the binary as it is shipped
	$(RELEASE) -p call-history

reproducible: ## builds the release in two folders, and compares the bytes: some ten minutes
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	for folder in one another; do \
		git clone --quiet . "$$work/$$folder"; \
		env -u CARGO_TARGET_DIR $(MAKE) -C "$$work/$$folder" release; \
		sha256sum "$$work/$$folder/target/release/call-history"; done; \
	cmp "$$work/one/target/release/call-history" "$$work/another/target/release/call-history"; \
	install -D "$$work/one/target/release/call-history" $(TARGET)/reproducible/call-history

# What runs beside the black box: soak-short, scale-short and counts hold calls themselves; the others have the lowest
# priority, and clients-check, which takes longest, a little more. The scenarios of `foreign` measure times: nothing runs
# beside them. Where what computes only ran beside them with the scheduler's class "idle", more of them missed their
# tolerance.
BESIDE := soak-short scale-short clients-check fuzz deploy-check container sbom lint-plain counts
# Each of these has a log of its own. What failed is printed last, where one looks for it.
test: ## everything
	$(MAKE) lint
	@rm -rf $(TARGET)/black-box.log $(TARGET)/beside
	@# Tests run while the next programs are compiled.
	$(MAKE) -j2 --output-sync=target unit build-last
	@$(MAKE) -j4 black-box $(BESIDE:%=beside-%) || { $(MAKE) --no-print-directory what-failed; exit 1; }
	$(MAKE) foreign

# The program without the optional features is the last one that is built: each part that follows has `build` before it, and
# starts it. `unit` builds that program as a test only, so that nothing is exchanged below it.
build-last: unit-built featured
	$(MAKE) build

beside-%: build
	@mkdir -p $(TARGET)/beside
	@echo "$* is in $(TARGET)/beside/$*"
	@$(if $(filter soak-short scale-short counts,$*),,nice -n $(if $(filter clients-check,$*),10,19)) $(MAKE) --no-print-directory $* >$(TARGET)/beside/$* 2>&1 \
		&& mv $(TARGET)/beside/$* $(TARGET)/beside/$*.passed

# A log that has not passed. The fuzzer's dictionary and the frames of a panic are long, and say little.
what-failed:
	@-for log in $(BESIDE:%=$(TARGET)/beside/%); do \
		if [ -f $$log ]; then echo "== $$log"; grep -v '# Uses:' $$log | tail -n 40; fi; done
	@-sed -n '/^failures:$$/,$$p' $(TARGET)/black-box.log | grep -vE '^ +([0-9]+: |at )'

# The build is done by then: cargo shows its warnings again, and compiles nothing.
lint-plain: ## no warning without the optional features
	@set -o pipefail; $(MAKE) --no-print-directory build 2>&1 | { ! grep -A 12 '^warning'; }

lint: tools ## formatting, clippy with all features, dependencies, docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	@# With the examples, so that cargo chooses the same features as for clippy, and checks no dependency twice.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace $(FEATURES) --lib --bins --examples --no-deps --document-private-items --quiet
	$(CARGO) deny --log-level error check bans licenses sources
	$(CARGO) machete
	@set -o pipefail; \
		$(CARGO) tree --locked -p call-history --all-features -e normal --prefix none -f '{p}' | grep -vE '\((proc-macro|/)' | sort -u \
		| sed -E 's/ .*v/ /; s/ \(\*\)//' | while read -r crate; do grep -qxF "  $$crate" $(LICENCES) \
		|| { echo "$(LICENCES) lacks $$crate: make licences"; exit 1; }; done
	@for crate in tokio reqwest livekit; do \
		if $(CARGO) tree --locked -p call -e normal -i $$crate >/dev/null 2>&1; then \
			echo "the core must stay pure: $$crate is in its tree"; exit 1; fi; done
	@n=$$($(CARGO) tree --locked -p call -e normal --prefix none | sort -u | wc -l); \
		if [ $$n -gt $(CORE_TREE) ]; then echo "the core's tree has $$n crates"; exit 1; fi
	@for crate in record call store delivery receiver; do \
		if $(CARGO) tree --locked -p $$crate -e normal -i livekit >/dev/null 2>&1; then \
			echo "only the binary may know LiveKit: it is in the tree of $$crate"; exit 1; fi; done
	@if $(CARGO) tree --locked --workspace --target all -i webrtc-sys >/dev/null 2>&1; then \
		echo "webrtc-sys is in the tree: the patch of libwebrtc is not used"; exit 1; fi
	@grep -rhoE 'docs/[a-z-]+\.md §[0-9.]*[0-9]' src crates tests --include=*.rs | sort -u | while read -r doc section; do \
		id=s$$(echo "$${section#§}" | tr . -); \
		grep -q "id=\"$$id\"" "$$doc" || { echo "a comment cites $$doc $$section, which is not there"; exit 1; }; done

deploy-check: build ## manifests and chart against the types of Kubernetes, settings against the program
	cd deploy/check && go vet . && go test . \
		&& go run . -worker $(abspath $(TARGET))/debug/call-history

container: build ## builds the image's final stage without a registry, and holds a call with it; as root
	deploy/container/check.sh $(abspath $(TARGET))/debug/call-history $(abspath $(TARGET))/debug/contained

licences: ## writes the licences of all dependencies anew, after a change of them
	@command -v cargo-about >/dev/null || $(CARGO) install --locked cargo-about@$(ABOUT) --features cli
	$(CARGO) about generate --offline --locked --fail --all-features deploy/licences.hbs --output-file $(LICENCES)

sbom: ## what the binary is made of, as CycloneDX
	@command -v cargo-cyclonedx >/dev/null || $(INSTALL) cargo-cyclonedx@$(CYCLONEDX)
	$(CARGO) cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
	@rm crates/*/*_bin.cdx.json
	mv call-history_bin.cdx.json $(TARGET)/call-history.cdx.json

advisories: tools ## known weaknesses of dependencies; asks the network for the database of RustSec
	$(CARGO) deny check advisories

schema: ## writes docs/schema anew, after a change of the record's types
	$(CARGO) run --locked --quiet -p call-history -- schema > docs/schema/call-history.schema.json.new
	mv docs/schema/call-history.schema.json.new docs/schema/call-history.schema.json
	$(CARGO) run --locked --quiet -p call-history -- schema --events > docs/schema/call-event.schema.json.new
	mv docs/schema/call-event.schema.json.new docs/schema/call-event.schema.json

bench: ## the core and the outbox: events, memory, seals, the drain of a backlog
	$(CARGO) bench --locked -p store --bench core --bench outbox
	$(CARGO) build --locked --release -p call-history -p lab --bins
	$(abspath $(TARGET))/release/backlog

# The path of what was built last.
EXECUTABLE := --no-run --message-format=json \
	| $(PYTHON) -c 'import json,sys; print([e for m in map(json.loads, sys.stdin) if (e := m.get("executable"))][-1])'
# The unit tests are those of `unit`, so that nothing is built anew.
COUNTS = $(PYTHON) crates/store/benches/counts.py \
	"$$($(CARGO) bench --locked --quiet -p store --profile counts --bench counts $(EXECUTABLE))" \
	"$$($(CARGO) test --locked --quiet --workspace $(FEATURES) --bin call-history $(EXECUTABLE))"
counts: ## instructions and allocations of core, journal, outbox and observer, compared with crates/store/benches/counts.json; LONG=1 counts a very long call too
	@$(COUNTS) $(if $(LONG),--long)

counts-accept: ## writes these figures anew, after a change that is meant
	@$(COUNTS) --accept

MINUTES ?= 60
RATE ?= 60
LOAD := $(CARGO) build --locked --release -p call-history -p livekit-devserver -p lab --bins
soak: ## an hour of calls that begin and end, with faults; MINUTES and RATE (calls a minute) change it
	$(LOAD)
	$(abspath $(TARGET))/release/load soak --minutes $(MINUTES) --rate $(RATE)

scale: ## 100 to 1,000 calls at once on one worker: what each costs, and where it ends
	$(LOAD)
	$(abspath $(TARGET))/release/load scale

scale-short: build ## the same with six calls and the debug binaries: does it work?
	$(abspath $(TARGET))/debug/load scale --calls 6 --seconds 3 --settle 1

soak-short: build ## five minutes of soak, with the debug binaries
	$(abspath $(TARGET))/debug/load soak --minutes 5 --rate 12

bench-receiver: ## the receiver: posts a second beside a minimal Express endpoint, questions over a million calls
	@cd examples/receivers/express && { [ -d node_modules ] || npm ci --no-audit --no-fund --silent; }
	$(CARGO) bench --locked --workspace --bench speed

# Always for the whole workspace: for a part of it cargo would choose other features of some dependencies, and build them
# anew.
UNIT := $(CARGO) test --locked --workspace $(FEATURES) --lib --bins --test leaks --test pair --test protocol --test refused --test server
unit-built:
	$(UNIT) --no-run

unit: unit-built ## unit, table and property tests, and those of the crates
	$(UNIT)
	$(CARGO) test --locked --workspace $(FEATURES) --doc

black-box: build ## the real binary against a LiveKit server and an endpoint
	set -o pipefail; $(CARGO) test --locked --workspace --test it --test page -- --test-threads=8 2>&1 | tee $(TARGET)/black-box.log
	$(abspath $(TARGET))/debug/demo

# Both have their output in one folder: what they share is compiled once.
FUZZ_RUN := $(CARGO) fuzz run --sanitizer none --target-dir $(abspath $(TARGET))/fuzz
fuzz: tools ## the SDP reader and the core, each for FUZZ_SECONDS
	mkdir -p crates/libwebrtc/fuzz/corpus/sdp
	cd crates/libwebrtc && $(FUZZ_RUN) sdp fuzz/corpus/sdp fuzz/seeds/sdp \
		-- -max_total_time=$(FUZZ_SECONDS) -verbosity=0
	mkdir -p fuzz/corpus/journal
	$(FUZZ_RUN) journal fuzz/corpus/journal tests/journals \
		-- -max_total_time=$(FUZZ_SECONDS) -verbosity=0

# Truth is measured to a few hundredths of a second, by five processes on the same machine. A
# scenario that misses its tolerance is held once more, alone; then it must pass.
E2E := E2E_PRODUCT_BIN=$(abspath $(TARGET))/debug/call-history \
	LIVEKIT_DEVSERVER_BIN=$(abspath $(TARGET))/debug/livekit-devserver
foreign: build environments ## real Python and Node voice agents, callers, a browser
	node --test integrations/node/*.test.js
	cd benches && ../$(VENV)/bin/python -m unittest --quiet
	cd e2e && $(E2E) E2E_AT_ONCE=3 ../$(VENV)/bin/pytest $(CLIENTS:%=--ignore=%) \
		|| $(E2E) E2E_AT_ONCE=1 ../$(VENV)/bin/pytest $(CLIENTS:%=--ignore=%) --last-failed

CLIENTS := test_openapi.py test_example_receivers.py test_receiver_features.py
clients: featured ## the receiver: its pages in Chromium, its description fuzzed; bucket and Parquet; examples of other receivers
	$(MAKE) clients-check

# Builds nothing with other features: the black box runs beside it, and would meet that binary.
clients-check: build environments
	$(MAKE) pages
	cd e2e && $(E2E) E2E_FEATURED_BIN=$(abspath $(TARGET))/featured/call-history ../$(VENV)/bin/pytest $(CLIENTS)

featured: ## a debug binary with all features, kept beside the one that is shipped
	$(CARGO) build --locked --workspace $(FEATURES) --bin call-history --test leaks
	@mkdir -p $(TARGET)/featured
	cp $(TARGET)/debug/call-history $(TARGET)/featured/

PAGE := cd e2e/page && E2E_PRODUCT_BIN=$(abspath $(TARGET))/debug/call-history
pages: build node-modules ## the receiver's pages in Chromium: every page, both themes, a phone, without JavaScript
	$(PAGE) node --test --test-concurrency=1

pictures: build node-modules ## docs/pictures anew
	$(PAGE) node pictures.mjs

page-weight: build node-modules ## how heavy the pages are, and when they show something
	$(PAGE) node weight.mjs

environments: $(VENV)/ok $(PIPECAT)/ok node-modules

$(VENV)/ok: e2e/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r e2e/requirements.txt
	touch $@

$(PIPECAT)/ok: e2e/pipecat/requirements.txt
	$(PYTHON) -m venv $(PIPECAT)
	$(PIPECAT)/bin/pip install --quiet --disable-pip-version-check -r e2e/pipecat/requirements.txt
	touch $@

matrix: build environments $(MATRIX_VENVS) ## calls with pinned agent versions, from Python 1.0 to Pipecat; writes the table of docs/frameworks.md
	@for folder in $(MATRIX)/node/*/; do \
		if [ ! -d $$folder/node_modules ]; then \
			(cd $$folder && npm ci --no-audit --no-fund --silent) || exit 1; fi; done
	cd e2e && $(E2E) ../$(VENV)/bin/python -m matrix --keep $(abspath $(TARGET))/matrix --out ../docs/frameworks.md

$(MATRIX)/.venv-%/ok: $(MATRIX)/python/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Without optimisation: they have little to do, and compile in half the time. What they share is compiled once.
INSTALL := CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --debug --target-dir $(abspath $(TARGET))/tools
tools: ## installs the cargo tools that are missing
	@command -v cargo-deny >/dev/null || $(INSTALL) cargo-deny@$(DENY)
	@command -v cargo-machete >/dev/null || $(INSTALL) cargo-machete@$(MACHETE)
	@command -v cargo-fuzz >/dev/null || $(INSTALL) cargo-fuzz@$(FUZZ)

node-modules: ## what the browsers and the Node agents need
	@for folder in e2e/browser e2e/node e2e/page examples/receivers/express; do \
		if [ ! -d $$folder/node_modules ]; then \
			(cd $$folder && npm ci --no-audit --no-fund --silent) || exit 1; fi; done

accuracy: build environments ## docs/accuracy.md anew: an hour, on a quiet machine
	cd e2e && $(E2E) ../$(VENV)/bin/python -m accuracy --calls 20 --out ../docs/accuracy.md

# The binary as it is shipped is kept before the others are built: with them cargo may choose other features. A trial's
# figures are not published.
benchmark: $(BENCH_VENV)/ok ## docs/benchmarks.md anew, beside the same job in Python: half an hour, on a quiet machine; SHORT=1 for a trial
	$(MAKE) release
	@mkdir -p $(TARGET)/benchmark/docs
	cp $(TARGET)/release/call-history $(TARGET)/benchmark/
	$(RELEASE) -p lab -p livekit-devserver --bin load --bin livekit-devserver
	cp $(TARGET)/release/load $(TARGET)/release/livekit-devserver $(TARGET)/benchmark/
	cd benches && .venv/bin/python -m unittest --quiet
	cd benches && .venv/bin/python -m benchmark --binaries $(abspath $(TARGET))/benchmark \
		--keep $(abspath $(TARGET))/benchmark/figures.json \
		$(if $(SHORT),--short --out $(abspath $(TARGET))/benchmark/docs,--out ../docs)

profile: ## where a talking call's memory and instructions are (docs/benchmarks.md); needs heaptrack and valgrind
	$(CARGO) build --locked --profile counts -p call-history -p lab -p livekit-devserver --bin call-history --bin load --bin livekit-devserver
	cd benches && $(PYTHON) -m costs --binaries $(abspath $(TARGET))/counts

$(BENCH_VENV)/ok: benches/python/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean: ## build output, and the environments of the scenarios
	$(CARGO) clean
	rm -rf $(VENV) $(BENCH_VENV) $(PIPECAT) e2e/browser/node_modules e2e/node/node_modules e2e/page/node_modules \
		examples/receivers/express/node_modules
	rm -rf $(MATRIX)/.venv-* $(MATRIX)/node/*/node_modules
