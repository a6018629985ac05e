// Package e2e holds the end-to-end tests: the real binary on hosts made by
// netlab, driven by its command line only, as a user would.
package e2e
