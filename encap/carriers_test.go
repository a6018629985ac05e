//go:build !kernelwg

package encap

// carriers are those of WireGuard that every machine has.
var carriers = []Carrier{CarrierUserspace}
