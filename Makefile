# SPDX-License-Identifier: Apache-2.0
#
# Everything is built, tested and installed from here; `make help` lists how.

GO       ?= go
PREFIX   ?= /usr/local
DESTDIR  ?=
CNIDIR   ?= /opt/cni/bin
FUZZTIME ?= 10s
COUNT    ?= 6
RESULT   ?= $(shell date +%Y-%m-%d)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

BINARY := bin/slipway
STAGE  := launcher/stagefile/initstage
PLUGIN := bin/slipway-cni
HELPER := bin/slipway-init
PAGES  := $(wildcard docs/man/*.1)

.DEFAULT_GOAL := build
.PHONY: man build test lint fuzz demo bench bench-cni bench-launch bench-readme bench-soak microbench install install-compat install-cni clean help

build: ## build bin/slipway, bin/slipway-cni and bin/slipway-init, static binaries (this is the default)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(STAGE) ./launcher/initstage
	@install -D -m 0755 $(STAGE) $(HELPER)
	@CGO_ENABLED=0 $(GO) build -trimpath -tags slipway_stage -ldflags '-s -w -X main.version=$(VERSION)' -o $(BINARY) .
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.pluginVersion=$(VERSION)' -o $(PLUGIN) ./cni-plugin

test: ## install what the tests need and run every level of them (CI=true: a skip fails)
	@scripts/test

lint: ## gofmt, go vet, staticcheck, govulncheck, shellcheck, man pages
	@scripts/lint

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

demo: build ## a plain user's container fetches a page from the host through slipway
	@scripts/demo $(BINARY)

bench: build ## measure slipway beside its peers: bench/results/RESULT.json and .html (today's date)
	@$(GO) run ./bench -out $(RESULT) -html bench/results/$(RESULT).html

bench-launch: build ## measure slipway beside other container engines: bench/results/launch-RESULT.json; as root, for LAUNCHUSER
	@$(GO) run ./bench -launch -out launch-$(RESULT) $(if $(LAUNCHUSER),-user $(LAUNCHUSER))

bench-cni: ## measure ADD and DEL of the CNI plugin by libcni, as the user who asks: medians, in milliseconds
	@$(GO) test -run '^$$' -bench ADD -benchtime 25x -count 3 ./cni-plugin

bench-readme: ## write the newest results in bench/results into README.md and docs/benchmarks.md
	@$(GO) run ./bench -readme bench/results

bench-soak: build ## load slipway for ten minutes and see that it holds nothing back
	@$(GO) run ./bench -soak 10m

microbench: ## run the hot path's benchmarks COUNT (6) times; compare two outputs with benchstat
	@COUNT=$(COUNT) scripts/microbench

install: build ## install the binaries and the man pages below DESTDIR and PREFIX (/usr/local)
	@install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/slipway
	@install -m 0755 $(PLUGIN) $(DESTDIR)$(PREFIX)/bin/slipway-cni
	@install -m 0755 $(HELPER) $(DESTDIR)$(PREFIX)/bin/slipway-init
	@install -d $(DESTDIR)$(PREFIX)/share/man/man1
	@install -m 0644 $(PAGES) $(DESTDIR)$(PREFIX)/share/man/man1

install-compat: install ## install, and put slipway in the place of slirp4netns and pasta: links in PREFIX/bin
	@ln -sf slipway $(DESTDIR)$(PREFIX)/bin/slirp4netns
	@ln -sf slipway $(DESTDIR)$(PREFIX)/bin/pasta

install-cni: install ## install, and put the CNI plugin where runtimes look: a link in CNIDIR (/opt/cni/bin)
	@install -d $(DESTDIR)$(CNIDIR)
	@ln -sf $(PREFIX)/bin/slipway-cni $(DESTDIR)$(CNIDIR)/slipway-cni

man: ## write the man pages that are made of help texts
	@$(GO) run ./scripts/manpages

clean: ## remove what was built
	@rm -rf bin $(STAGE)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
