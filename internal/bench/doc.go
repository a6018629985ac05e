// Package bench measures what weft's transports cost, beside the bare network of
// the same machine and beside other tools that do the same, on hosts made by
// netlab. All is measured in one run and in turn, and every figure is set against
// the plain route of its own round, so that other work on the machine weighs on
// both. It asserts nothing: it is a benchmark, which `make bench` runs.
package bench
