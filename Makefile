# Thin names for what .ci/run does step by step; see DEVELOPERS.md.
.PHONY: build test test-purego test-tiers race invariants lint generate generate-check fuzz bench ci

build:
	CGO_ENABLED=0 go build ./cmd/triforce

test:
	go test ./...

test-purego:
	bash .ci/run purego

test-tiers:
	bash .ci/run tiers

race invariants lint fuzz:
	bash .ci/run $@

generate:
	go generate ./internal/...

generate-check:
	bash .ci/run generate

# Kernels, under every tier that the processor has: compare with
# benchstat -col /tier.
bench:
	go test -run '^$$' -bench . -count 6 ./internal/kernel/...

ci:
	bash .ci/run
