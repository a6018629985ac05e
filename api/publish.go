package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
)

// PortMapping is a port of the host that leads to one of a container on it.
type PortMapping struct {
	// Protocol is "tcp" or "udp"; "" is "tcp".
	Protocol string `json:"protocol"`
	// HostIP limits it to one address of the host; the zero value for all.
	HostIP   netip.Addr `json:"hostIP,omitzero"`
	HostPort uint16     `json:"hostPort"`
	// Port is the container's; 0 for the same as the host's.
	Port uint16 `json:"port"`
}

// String is the mapping as it is typed: [HOSTIP:]HOSTPORT:PORT/PROTOCOL.
func (m PortMapping) String() string {
	s := fmt.Sprintf("%d:%d/%s", m.HostPort, m.Port, m.Protocol)
	if m.HostIP.IsValid() {
		s = m.HostIP.String() + ":" + s
	}
	return s
}

// PublishRequest asks for ports of the host to lead to a container on it. It is
// idempotent, and publishes all of the ports or none.
type PublishRequest struct {
	// Container as in AttachRequest.
	Container string        `json:"container"`
	Ports     []PortMapping `json:"ports"`
}

// UnpublishRequest takes published ports of a container away.
type UnpublishRequest struct {
	// Container as in AttachRequest.
	Container string `json:"container"`
	// Ports to take away; none for all.
	Ports []PortMapping `json:"ports,omitempty"`
}

// Publication is what a container has published.
type Publication struct {
	Container string        `json:"container"`
	Address   netip.Addr    `json:"address"`
	Ports     []PortMapping `json:"ports"`
	// Warnings say what may keep a port from working as it should.
	Warnings []string `json:"warnings,omitempty"`
}

// Publish makes ports of the host lead to a container, and returns all that the
// container has published.
func (c *Client) Publish(ctx context.Context, r PublishRequest) (Publication, error) {
	return call[Publication](ctx, c, http.MethodPost, PathPublish, r)
}

// Unpublish takes published ports away and returns those that are left.
func (c *Client) Unpublish(ctx context.Context, r UnpublishRequest) (Publication, error) {
	return call[Publication](ctx, c, http.MethodPost, PathUnpublish, r)
}
