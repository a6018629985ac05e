package api

import (
	"net/netip"
	"time"
)

// AttachRequest asks for a container to be put on the network. It is
// idempotent: the same container and interface get the same answer again.
type AttachRequest struct {
	// Container names a container of an engine by name, id or the beginning of
	// one, or a network namespace by its name under /run/netns, an absolute
	// path, or a process id in decimal. "docker:", "podman:", "containerd:",
	// "netns:" and "pid:" before it say which.
	Container string `json:"container"`
	// Engine, ID and Name say whose container it is. They are for callers that
	// an engine calls while it cannot be asked; Container is then a path.
	Engine string `json:"engine,omitempty"`
	ID     string `json:"id,omitempty"`
	Name   string `json:"name,omitempty"`
	// Address asks for a certain address; the zero value for any. An IPv6 one
	// stands for the IPv4 one that it goes with.
	Address netip.Addr `json:"address,omitzero"`
	// More asks for further addresses on the same interface.
	More []netip.Addr `json:"more,omitempty"`
	// Subnet is the part of the range that the address is to be in; the zero
	// value for the host's default. Containers in different subnets do not reach
	// each other. An interface that has no address in it yet gets one more.
	Subnet netip.Prefix `json:"subnet,omitzero"`
	// Interface is the interface's name inside; "" for eth0 where there is
	// none yet, else eth1.
	Interface string `json:"interface,omitempty"`
	// NoDefaultRoute leaves the container without a default route through the
	// bridge. One that has a default route already is never given another.
	NoDefaultRoute bool `json:"noDefaultRoute,omitempty"`
	// Endpoint makes the request one of a container runtime; see there.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// AddressOnly gives the endpoint addresses and leaves the kernel to the
	// caller; Container is not needed then.
	AddressOnly bool `json:"addressOnly,omitempty"`
	// MAC is the hardware address of the interface; "" for one that follows
	// from the address.
	MAC string `json:"mac,omitempty"`
	// MTU in bytes; 0, and what is more than the network's, for the network's.
	MTU int `json:"mtu,omitempty"`
	// Ports of the host that are to lead to the endpoint, in addition to those that
	// do already.
	Ports []PortMapping `json:"ports,omitempty"`
}

// DetachRequest asks for a container to be taken off the network.
type DetachRequest struct {
	// Container as in AttachRequest.
	Container string `json:"container"`
	// Address limits the request to one address, in both families; the zero value
	// for all.
	Address netip.Addr `json:"address,omitzero"`
	// Endpoint is what is to be detached, in place of a container. That there
	// is nothing of it is no error.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// Attachment is one container interface on the network.
type Attachment struct {
	// Container is the engine's name for it, or the reference that it was
	// attached by where no engine knows it.
	Container string `json:"container"`
	// Reference is what it was attached by.
	Reference string `json:"reference"`
	// Engine is "docker", "podman", "containerd", or "" for a plain network
	// namespace; ID is the engine's whole id.
	Engine string `json:"engine,omitempty"`
	ID     string `json:"id,omitempty"`
	// Address with the prefix length of the whole range; the zero value for a
	// stopped container whose address is free for others.
	Address netip.Prefix `json:"address"`
	// More are further addresses of the interface.
	More []netip.Prefix `json:"more,omitempty"`
	// IPv6 are the addresses that go with Address and More, in this order; none
	// where the mesh, the host or the container has IPv6 off.
	IPv6    []netip.Addr `json:"ipv6,omitempty"`
	Gateway netip.Addr   `json:"gateway"`
	// IPv6Gateway is the next hop of the container's IPv6 routes; absent where it
	// has no IPv6.
	IPv6Gateway netip.Addr `json:"ipv6Gateway,omitzero"`
	MAC         string     `json:"mac"`
	Interface   string     `json:"interface"`
	// HostInterface is the end of the veth pair on the bridge.
	HostInterface string `json:"hostInterface"`
	// NetNS is the absolute path of the network namespace.
	NetNS string `json:"netns"`
	MTU   int    `json:"mtu"`
	// State is one of the states below.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Subnets that the addresses were asked for in.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Published are the ports of the host that lead to the container.
	Published []PortMapping `json:"published,omitempty"`
	// Endpoint is set for what a container runtime attached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// Routes that the container has by the gateways, or is to be given where it has
	// addresses only; only of an endpoint that was just attached.
	Routes []Route `json:"routes,omitempty"`
	// Bridge is the device that the container is on.
	Bridge string `json:"bridge,omitempty"`
}

// States of an Attachment.
const (
	StateAttached = "attached"
	// StateCutOff: it may not use its address for now.
	StateCutOff = "cut off"
	// StateStopped: its container does not run; it is put back when it does.
	StateStopped = "stopped"
	// StateGone: its namespace has vanished, and its address is about to be freed.
	StateGone = "gone"
	// StateReserved: it is an address only, and its runtime sees to the rest.
	StateReserved = "reserved"
)

// ExposeRequest names an address of the host on the network, for expose and
// hide; the zero value for any (expose) or all (hide).
type ExposeRequest struct {
	Address netip.Addr `json:"address,omitzero"`
	// Subnet is the part of the range that the address is to be in, or that is to
	// be hidden; the zero value for the host's default, or for all.
	Subnet netip.Prefix `json:"subnet,omitzero"`
}

// Exposure lists the addresses by which the host is on the network.
type Exposure struct {
	Addresses []netip.Prefix `json:"addresses"`
	// IPv6 are those that go with Addresses, in this order.
	IPv6 []netip.Addr `json:"ipv6,omitempty"`
}
