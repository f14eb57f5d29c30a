# Sallyport. `make help` lists the targets.

SHELL      := /bin/sh
GO         ?= go
BIN        := bin
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT     ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS    := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# Everything but the tests is built without cgo, so that all of it shares one cache.
NOCGO      := CGO_ENABLED=0
BUILD      := $(NOCGO) $(GO) build -ldflags '$(LDFLAGS)'
# sallyport-step speaks HTTP/1.1 only: without HTTP/2 it is half a megabyte smaller.
STEPTAGS   := -tags nethttpomithttp2
STEPARCHS  ?= amd64 arm64
STATICCHECK := $(NOCGO) $(GO) tool -modfile=tools/go.mod staticcheck
BENCHSTAT  := $(NOCGO) $(GO) tool -modfile=tools/go.mod benchstat
# The race detector needs cgo and so a C compiler; without one the tests run without it.
RACE       := $(shell command -v gcc >/dev/null 2>&1 && echo -race)
PACKAGES   ?= ./...
# Tests that run side by side in a package. Most of them wait for servers and clients.
PARALLEL   ?= 3
# By default a program with the race detector sleeps for a second before it exits.
GORACE     ?= atexit_sleep_ms=0
# The packages that take the longest begin first.
FIRST      := $(if $(filter ./...,$(PACKAGES)),./e2e ./policy/rego ./audit/postgres/writer)
FUZZTIME   ?= 30s

.DEFAULT_GOAL := help
.PHONY: help demo demo-needs test check lint build release step clean needs fuzz bench bench-profile bench-parts soak crash fmt clients clients-needs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: demo-needs build ## run the tour: an emulated Bitbucket, real curl, real PostgreSQL (ONCE=1 ends after it)
	@$(BIN)/sallyport-demo --sallyport $(BIN)/sallyport $(if $(ONCE),--once)

test: needs ## run every test, against real PostgreSQL and real clients, with progress
	@$(NOCGO) $(GO) build -C tools -o ../$(BIN)/testprogress ./testprogress
	@echo "running all tests: about 13 minutes on two cores"
	GO=$(GO) GORACE=$(GORACE) $(BIN)/testprogress $(RACE) -vet=off -shuffle=on -timeout 20m -parallel $(PARALLEL) $(FIRST) $(PACKAGES)

check: lint test ## what CI runs: lint, then every test

lint: ## gofmt, vet, staticcheck, wording, tidy modules
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt'ed:"; echo "$$out"; exit 1; }
	$(NOCGO) $(GO) vet ./...
	$(STATICCHECK) ./...
	$(NOCGO) $(GO) test -run 'TestDialect|TestSentenceLength' ./internal/archtest
	cd tools && $(NOCGO) $(GO) vet ./... && $(GO) mod tidy -diff
	cd tools/clients && $(NOCGO) $(GO) vet ./... && $(GO) mod tidy -diff
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

build: ## build bin/sallyport, bin/sallyport-step and bin/sallyport-demo
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/sallyport ./cmd/sallyport-demo
	$(BUILD) $(STEPTAGS) -o $(BIN)/ ./cmd/sallyport-step

release: step ## build bin/sallyport and bin/step reproducibly, without this machine's paths in them, and man pages
	@mkdir -p $(BIN)
	$(BUILD) -trimpath -o $(BIN)/ ./cmd/sallyport
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) $(NOCGO) $(GO) test ./cmd/sallyport -run TestManPages -count=1 -args -man $(abspath $(BIN))/man

step: ## build sallyport-step for steps reproducibly: bin/step/linux-amd64 and linux-arm64, with SHA-256 files
	@mkdir -p $(BIN)/step
	@for arch in $(STEPARCHS); do \
	  GOOS=linux GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0 $(BUILD) $(STEPTAGS) -trimpath -buildvcs=false -o $(BIN)/step/linux-$$arch ./cmd/sallyport-step || exit 1; \
	  (cd $(BIN)/step && sha256sum linux-$$arch >linux-$$arch.sha256 && cat linux-$$arch.sha256) || exit 1; \
	done

needs: ## get what a bare machine lacks: PostgreSQL, PgBouncer, curl, git, ssh
	@sh tools/needs.sh curl git ssh pgbouncer nft ip

demo-needs:
	@sh tools/needs.sh curl git

fuzz: ## run every fuzz target for FUZZTIME each (30s)
	@for pkg in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$pkg); \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go 2>/dev/null | awk '{print $$2}'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

bench: needs ## measure the server and other proxies side by side, and write the tables of docs/performance.md (ROUNDS, SECONDS, ONLY=loads, TARGETS=names; COMPARE=1: compare with the committed ratios; MERGE=1: keep what was not measured again)
	$(GO) test -run 'TestBench$$' -v -count=1 -timeout 30m ./e2e -args -bench-all -bench-rounds $(or $(ROUNDS),3) -bench-seconds $(or $(SECONDS),1) \
	  -bench-only '$(ONLY)' -bench-targets '$(TARGETS)' $(if $(COMPARE),-bench-compare) $(if $(MERGE),-bench-merge)

bench-profile: needs ## write a CPU profile of the server under new tunnels and GET requests to bin/bench.pprof
	@mkdir -p $(BIN)
	$(GO) test -run 'TestBenchProfile$$' -v -count=1 -timeout 10m ./e2e -args -bench-profile $(abspath $(BIN))/bench.pprof

bench-parts: ## run the Go benchmarks COUNT times (6), and summarize them with benchstat (OLD=file of an earlier run to compare with, PACKAGES)
	@mkdir -p $(BIN)
	$(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),6) -timeout 60m $(PACKAGES) >$(BIN)/bench-parts.txt || { cat $(BIN)/bench-parts.txt; exit 1; }
	$(BENCHSTAT) $(OLD) $(BIN)/bench-parts.txt

crash: needs ## run the long tests of the audit log: 1,000 kills under load (KILLS, SEED), 20 failovers, 2,000 lies about a sealed log, 100 sound ones
	$(GO) test -run 'TestCrash$$' -v -count=1 -timeout 100m ./e2e -args -kills $(or $(KILLS),1000) -seed $(or $(SEED),1)
	$(GO) test -run 'TestFailover$$' -v -count=1 -timeout 60m ./e2e -args -failovers $(or $(FAILOVERS),20)
	$(GO) test -run 'TestTamper$$' -v -count=1 -timeout 60m ./audit/postgres/reader -args -edits 2000
	$(GO) test -run 'TestCleanLogs$$' -v -count=1 -timeout 60m ./audit/postgres/writer -args -clean 100

soak: needs ## run the long tests: minutes of attack and of traffic against the running server (SOAK=Name picks)
	$(GO) test -tags soak -run '$(or $(SOAK),Soak|TestNetwork|TestFairness)' -v -count=1 -parallel 1 -timeout 60m ./e2e
	$(GO) test -tags soak -run '$(or $(SOAK),Soak)' -v -count=1 -timeout 60m ./webhook/agent
	SALLYPORT_POLICIES=10000 $(GO) test -run TestDecisionsAreThePolicys -v -count=1 -timeout 60m ./policy/rego
	SALLYPORT_RELOADS=1000 $(GO) test -run TestReloadsUnderLoad -v -count=1 -timeout 60m ./policy/rego
	SALLYPORT_REPOSITORIES=50000 $(GO) test -run TestFullScale -v -count=1 -timeout 30m ./policy/rego

clients: clients-needs ## run every client against the proxy in every way, and write docs/clients.md (CLIENT=part of a name: only these)
	$(GO) test -run 'TestClients$$' -count=1 -timeout 30m ./e2e -args -clients '$(or $(CLIENT),all)' -update-clients

clients-needs: needs ## install the clients that this machine lacks: Debian's, npm's and Go's
	@sh tools/clients/needs.sh

.PHONY: kubernetes
kubernetes: ## run the refresh of resources against a real kube-apiserver (the first build takes minutes)
	cd tools/kubernetes && GOFLAGS=-mod=mod $(GO) test -vet=off -v -count=1 -timeout 10m ./...

fmt: ## format the sources
	gofmt -w $$(git ls-files '*.go')

clean: ## remove what was built and what the demo left
	rm -rf $(BIN) demo-data
