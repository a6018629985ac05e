#!/usr/bin/env bash
# Runs unit, property and kernel tests with the race detector.
set -euo pipefail
go=${1:-go}

# With the race detector a timer of virtual time may crash the process when two
# threads run goroutines of one bubble (golang/go#78156): one thread for those.
# internal/simnet would take minutes under the detector.
bubbles=$("$go" list -f '{{range .TestImports}}{{if eq . "testing/synctest"}}{{$.ImportPath}}{{"\n"}}{{end}}{{end}}{{range .XTestImports}}{{if eq . "testing/synctest"}}{{$.ImportPath}}{{"\n"}}{{end}}{{end}}' ./... | grep . | grep -v /simnet | sort -u)

"$go" list ./... | grep -v '/e2e\|/simnet' | grep -vxF "$bubbles" | xargs "$go" test -count=1 -race
xargs "$go" test -count=1 -race -cpu 1 <<<"$bubbles"
"$go" test -count=1 ./internal/simnet
