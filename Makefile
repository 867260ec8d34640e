# The commands of daily work; `make` alone lists them. CI runs .ci/run, which is also `make ci`.
.DEFAULT_GOAL := help
SHELL := bash -euo pipefail

FUZZTIME ?= 30s

.PHONY: help build test test-race lint fmt fuzz e2e soak bench ci sandbox schema clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the daemon, static, as bin/webhook-dispatcher
	CGO_ENABLED=0 go build -trimpath -o bin/webhook-dispatcher ./cmd/webhook-dispatcher

test: ## all tests that need Go alone
	go test ./...

test-race: ## the same with the race detector; needs a C compiler
	go test -race ./...

lint: ## golangci-lint as CI runs it, built from tools/ the first time
	go tool -modfile=tools/go.mod golangci-lint run

fmt: ## format the code and apply the linters' own fixes
	go tool -modfile=tools/go.mod golangci-lint fmt
	go tool -modfile=tools/go.mod golangci-lint run --fix

fuzz: ## each fuzz target for FUZZTIME (30s)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' cmd internal pkg schema | while IFS=: read -r file func; do \
	  echo "$$(dirname "$$file") $${func#func }"; \
	  go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

e2e: ## against real Kafka, registry, databases and publisher; see CONTRIBUTING.md
	go test -tags e2e -count=1 -timeout 30m ./test/...

soak: ## the end-to-end tests with their long forms of load and faults, some 45 minutes; ends with a table of figures
	WEBHOOK_DISPATCHER_SOAK=1 go test -tags e2e -count=1 -timeout 120m -v ./test/e2e/...

bench: build ## deliveries a second, CPU and memory beside a plain HTTP client; takes a few minutes and a machine that does nothing else
	go build -o bin/bench ./cmd/bench
	bin/bench --binary bin/webhook-dispatcher $(BENCH)

ci: ## everything that CI runs
	.ci/run

sandbox: ## the whole system on this machine, with sample rules and a receiver, until Ctrl-C
	go run ./cmd/sandbox

schema: ## make the event catalogue and the Avro schemas anew from the published Python packages
	schema/update

clean: ## remove what was built and downloaded
	rm -rf bin
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/webhook-dispatcher"
