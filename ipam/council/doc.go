// Package council decides what single-writer registers cannot: who is a member
// of an address plan, who is shut out of it for good, and who inherits. A few
// voters agree on a log of decisions by Raft (Ongaro and Ousterhout, "In Search
// of an Understandable Consensus Algorithm", 2014; go.etcd.io/raft); the State
// that follows from the log is spread to everybody and checked by its hash.
//
// All of it is pure: ticks and messages in, writes and messages out. When to
// propose something, and what a decision means for registers, allocations and
// the data plane, is for package ipam.
package council
