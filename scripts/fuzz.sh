#!/usr/bin/env bash
# Runs every fuzz target for a while; what it finds is kept under testdata.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do
	dir=$(dirname "$file")
	while read -r target; do
		echo "== $dir $target"
		go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}"
	done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\).*/\1/p' "$file")
done
