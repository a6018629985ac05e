#!/usr/bin/env bash
# Lints the Go code and the scripts. The arguments run a pinned Go tool.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not formatted (gofmt -w): $unformatted" >&2
	exit 1
fi
for tags in '' kernelwg; do # the latter are tests that need another kernel
	go vet -tags "$tags" ./...
	"$@" staticcheck -tags "$tags" ./...
done
shellcheck -x scripts/*.sh .ci/run
echo "lint: ok"
