// Package ipam decides which peer may give out which addresses, and gives out
// this peer's.
//
// The range is cut into equal blocks. Each block has a register that says who
// owns it, and only the owner writes it: giving a block away is the owner's
// last write. A peer allocates from its own blocks without asking anybody, and
// a newcomer gets its share from one peer that it can reach. What has to be
// agreed by several (removing a peer that is gone, and who inherits) belongs
// to the council, whose decisions are the epochs of the registers.
//
// Core is pure: messages in, effects out, no I/O, clock, goroutine or chance,
// so that it can be simulated. Allocator is the thin edge around it that
// commits before anything leaves the process, and waits for answers. How
// messages travel is left to mesh, what is done with an address to bridge.
package ipam
