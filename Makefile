# What a contributor runs. `make check` is what has to pass before a change lands, without the slow parts of .ci/run.

.DEFAULT_GOAL := help
FUZZTIME ?= 20s
GOLANGCI_VERSION ?= $(shell cat .ci/golangci-version)
GOBIN := $(CURDIR)/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build: ## the static binary, in bin/
	CGO_ENABLED=0 go build -trimpath -o bin/dragoman .

run: ## the proxy on its embedded demo agents
	go run .

test: ## the tests: no network, no other service
	go test ./...

race: ## the tests under the race detector
	go test -race ./...

fuzz: ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

bench: ## the Go benchmarks, with allocations
	go test -run '^$$' -bench . -benchmem ./...

golden: ## write the golden files of translate/ anew: read every difference
	go test ./translate -run TestGolden -update

docs: ## write the generated tables of the README anew
	go test . -run TestReadmeTables -update

interop: ## real clients against real backends: needs Python and Node
	interop/run

compare: ## CPU time beside a bare fasthttp proxy and nginx
	bench/run

lint: bin/golangci-lint ## the linters, with the reasons in .golangci.yml
	bin/golangci-lint run ./...

bin/golangci-lint: .ci/golangci-version
	GOBIN=$(GOBIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@touch $@

systems: ## whether it builds for other systems, tests included
	for os in darwin freebsd windows; do GOOS=$$os CGO_ENABLED=0 go vet ./... || exit 1; done
	GOARCH=arm64 CGO_ENABLED=0 go vet ./...

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

check: ## what has to pass before a change lands
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	$(MAKE) lint
	go test ./...

.PHONY: help build run test race fuzz bench golden docs interop compare lint systems fmt check
