// Package mesh knows who is here. Membership and failure detection are
// hashicorp/memberlist's, behind weft's names; on top of them each peer gossips
// one signed, versioned record of what the others should know of it, and other
// packages replicate their state over channels whose content mesh does not
// look into.
//
// Before memberlist talks to a host, a hello on the same port proves to both
// sides that they hold the same token, and tells both the reason if they do
// not. What prefixes, gateways or transports mean is left to ipam and encap.
package mesh
