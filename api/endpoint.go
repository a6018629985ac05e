package api

import (
	"context"
	"net/http"
	"net/netip"
)

// Paths of the requests about endpoints.
const (
	PathInspect = "/v1/attachments/inspect"
	PathCollect = "/v1/attachments/collect"
)

// Endpoint names an interface of a container as its runtime does, whether or
// not the container's network namespace is still there. All of it is the key:
// the same endpoint has one attachment, and attaching it in another namespace
// takes it out of the one before.
type Endpoint struct {
	Network   string `json:"network"`   // the runtime's network
	Container string `json:"container"` // the runtime's id of the container
	Interface string `json:"interface"` // name inside
}

// String is the endpoint for people.
func (e Endpoint) String() string {
	return e.Interface + " of container " + e.Container + " in network " + e.Network
}

// InspectRequest asks what the kernel has of an endpoint.
type InspectRequest struct {
	Endpoint Endpoint `json:"endpoint"`
	// Container is where its runtime says that the network namespace is.
	Container string `json:"container"`
}

// Inspection is what the kernel and the daemon have of an endpoint.
type Inspection struct {
	Attachment Attachment `json:"attachment"`
	// Missing says what is not there or not as it has to be, in a sentence; ""
	// if the interface is there, is up, and is on the bridge.
	Missing string `json:"missing,omitempty"`
	// MAC, MTU, Addresses and Routes are those of the interface.
	MAC       string         `json:"mac,omitempty"`
	MTU       int            `json:"mtu,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Routes    []Route        `json:"routes,omitempty"`
}

// Route is one of a container's.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Via         netip.Addr   `json:"via,omitzero"`
}

// CollectRequest frees what a runtime's network has here, but for some.
type CollectRequest struct {
	Network string `json:"network"`
	// Valid are the endpoints of the network that stay.
	Valid []Endpoint `json:"valid"`
}

// CollectReport says what was freed, and what could not be.
type CollectReport struct {
	Freed  []Attachment `json:"freed"`
	Failed []string     `json:"failed,omitempty"`
}

// Inspect looks what the kernel has of an endpoint.
func (c *Client) Inspect(ctx context.Context, r InspectRequest) (Inspection, error) {
	return call[Inspection](ctx, c, http.MethodPost, PathInspect, r)
}

// Collect frees what a container runtime's network has on the daemon's host,
// but for what the request lists.
func (c *Client) Collect(ctx context.Context, r CollectRequest) (CollectReport, error) {
	return call[CollectReport](ctx, c, http.MethodPost, PathCollect, r)
}
