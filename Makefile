# weft's two commands for a fresh machine are `make demo` and `make test`; the
# rest is for those who work on it. Everything that needs the kernel needs root.

GO      ?= go
VERSION ?= 0.1.0-dev
LDFLAGS := -s -w -X github.com/weft-net/weft/daemon.software=$(VERSION)
BENCH    = -rounds $(or $(ROUNDS),5) -seconds $(or $(SECONDS_EACH),2)
TOOLS   := $(GO) tool -modfile=scripts/tools/go.mod

.PHONY: all build image demo test unit sim sim-mutants simnet curves fifty known soak e2e kernel test-kernel-wg bench-kernel-wg lint bench bench-cni sandboxes fuzz deps clean

all: build

build: ## build bin/weft, a static binary, which carries the small program that is its CNI plugin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o internal/cnifiles/weft-cni ./plugin/cni/weft-cni
	CGO_ENABLED=0 $(GO) build -trimpath -tags smallplugin -ldflags '$(LDFLAGS)' -o bin/weft .

image: build ## bin/weft-image.tar, for `docker load` and `ctr images import`
	scripts/image.sh bin/weft weft:$(VERSION) bin/weft-image.tar

deps: ## install the Debian packages that demo and tests need
	scripts/deps.sh $(NEEDS)

bin/cnitool: scripts/tools/go.mod
	CGO_ENABLED=0 $(GO) build -modfile=scripts/tools/go.mod -o $@ github.com/containernetworking/cni/cnitool

demo: deps build ## three hosts, six containers, one network; KEEP=1 leaves it up
	scripts/demo.sh

test: NEEDS = $(if $(filter x86_64,$(shell uname -m)),kernel-wg)# at once, and not when all else has run
test: deps lint unit e2e kernel ## everything that has to pass

unit: ## unit, property and kernel tests, with the race detector
	scripts/unit.sh $(GO)

sim: ## random schedules of the address plan for SECONDS
	$(GO) test ./ipam -count=1 -v -timeout 0 -run TestSimulationForATime -sim.seconds $(or $(SECONDS),60) -sim.first $(or $(FIRST),1)

sim-mutants: ## every mistake that the simulator must catch, and what caught it
	$(GO) test ./ipam -count=1 -v -timeout 0 -run TestEveryMutantIsCaught -sim.mutants

simnet: ## a mesh of PEERS (1000) real peers in virtual time: how long news takes, and how many bytes
	$(GO) test ./internal/simnet -count=1 -v -timeout 0 -run 'TestScale|TestMemory' -simnet.peers $(or $(PEERS),1000)

curves: ## the same for each of SIZES, and the table and the drawing in docs/ of what came of it
	for n in $(or $(SIZES),10 30 100 300 1000 3000); do \
		$(GO) test ./internal/simnet -count=1 -v -timeout 0 -run 'TestScale|TestMemory' -simnet.peers $$n -simnet.record $(CURDIR)/docs/scale.csv || exit 1; done
	$(GO) test ./internal/simnet -count=1 -run TestCurves -update

fifty: build ## DAEMONS (50) on this machine: until all know all, and what each takes while nothing happens
	WEFT_BINARY=$(CURDIR)/bin/weft $(GO) test -count=1 -timeout 0 ./internal/e2e -run '^$$' -bench Daemons -benchtime 1x -daemons $(or $(DAEMONS),50) -daemons.flags "$(FLAGS)"

known: build ## a daemon that knows PEERS (1000) others, of which none is there: its memory and what it takes
	WEFT_BINARY=$(CURDIR)/bin/weft $(GO) test -count=1 -timeout 0 ./internal/e2e -run '^$$' -bench Known -benchtime 1x -known $(or $(PEERS),1000)

soak: build ## HOSTS (20) with a container each, whose underlay is in trouble for MINUTES (60), by SEED (1); the report is in bin/soak
	rm -rf bin/soak && mkdir -p bin/soak
	$(GO) test -c -o bin/e2e.test ./internal/e2e
	WEFT_BINARY=$(CURDIR)/bin/weft bin/e2e.test -test.run '^$$' -test.bench Soak -test.benchtime 1x -test.timeout 0 \
		-soak.time $(or $(MINUTES),60)m -soak.hosts $(or $(HOSTS),20) -soak.seed $(or $(SEED),1) -soak.flags "$(FLAGS)" -soak.out bin/soak

e2e: build bin/cnitool ## the real daemon on hosts made of namespaces
	WEFT_BINARY=$(CURDIR)/bin/weft $(GO) test -count=1 -v -parallel 3 -timeout 20m ./internal/e2e/...

kernel: ## two hosts whose kernel has WireGuard, in a virtual machine; what can be had of test-kernel-wg in a minute or two
	@if [ "$$(uname -m)" != x86_64 ]; then \
		echo "the WireGuard of a kernel is tested on x86_64 only"; \
	else \
		scripts/deps.sh kernel-wg && scripts/kernel-wg.sh --quick; \
	fi

test-kernel-wg: ## tests of WireGuard in a virtual machine whose kernel has it
	scripts/deps.sh kernel-wg
	scripts/kernel-wg.sh

bench-kernel-wg: ## the bench in that machine: ratios, with a grain of salt
	scripts/deps.sh kernel-wg
	scripts/kernel-wg.sh bench.test -test.run '^$$' -test.bench . -test.benchtime 1x $(BENCH) -ways "'^(veth|masquerade|direct|vxlan|wireguard$$)'"

lint: ## gofmt, go vet, staticcheck, shellcheck
	scripts/lint.sh $(TOOLS)

bench: build ## each transport beside the bare network and others' tunnels, in ROUNDS of SECONDS_EACH; WAYS=direct for some, WIRE=1gbit for links as fast
	scripts/deps.sh bench
	WEFT_BINARY=$(CURDIR)/bin/weft $(GO) test -count=1 -timeout 0 ./internal/bench -run '^$$' -bench . -benchtime 1x $(BENCH) $(if $(WAYS),-ways '$(WAYS)') $(if $(WIRE),-wire $(WIRE))

bench-cni: deps build bin/cnitool ## the CNI plugin beside Debian's bridge and host-local
	scripts/bench-cni.sh

sandboxes: deps build ## 200 sandboxes of containerd come and go
	WEFT_SANDBOXES=200 WEFT_BINARY=$(CURDIR)/bin/weft $(GO) test -count=1 -v -timeout 15m -run TestContainerd ./internal/e2e/

fuzz: ## each fuzz target for FUZZTIME (10s)
	scripts/fuzz.sh $(or $(FUZZTIME),10s)

clean:
	rm -rf bin internal/cnifiles/weft-cni
