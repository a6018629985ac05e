package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) publish() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:   "publish [CONTAINER [HOSTIP:]HOSTPORT:PORT[/tcp|udp]…]",
		Short: "Let ports of this host lead to a container on it",
		Long: `Let ports of this host lead to a container on it; without arguments, list those
that do. From outside, from this host (also by 127.0.0.1) and from containers, the
container itself included, whoever connects to HOSTPORT reaches PORT of the
container. What comes from outside keeps its source address. HOSTIP limits it to
one address of the host. Ranges of the same length stand for their ports one by
one. It lasts until unpublish or detach. The same again changes nothing.`,
		Example: `  weft publish web 8080:80
  weft publish web 192.0.2.1:443:8443 53:5353/udp
  weft publish web 7000-7009:7000-7009
  weft publish                           # what is published on this host`,
		Args:              arguments(notOne),
		ValidArgsFunction: a.completeAttached,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			ctx, cancel := a.request()
			defer cancel()
			if len(args) == 0 {
				list, err := a.client().Attachments(ctx)
				if err != nil {
					return err
				}
				return a.printPublished(publications(list))
			}
			var req api.PublishRequest
			if req.Container, err = containerArg(args[0]); err != nil {
				return err
			}
			for _, s := range args[1:] {
				ports, err := mappings(s, true)
				if err != nil {
					return err
				}
				req.Ports = append(req.Ports, ports...)
			}
			got, err := a.client().Publish(ctx, req)
			if err != nil {
				return err
			}
			for _, w := range got.Warnings {
				a.say("warning: %s", w)
			}
			return a.printPublished([]api.Publication{got})
		},
	}, formatsOne)
}

func (a *app) unpublish() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:   "unpublish CONTAINER [[HOSTIP:]HOSTPORT[:PORT][/tcp|udp]…]",
		Short: "Take published ports of a container away, and print those that are left",
		Example: `  weft unpublish web 8080
  weft unpublish web 192.0.2.1:443 53/udp
  weft unpublish web                     # all of them`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeAttached,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			var req api.UnpublishRequest
			if req.Container, err = containerArg(args[0]); err != nil {
				return err
			}
			for _, s := range args[1:] {
				ports, err := mappings(s, false)
				if err != nil {
					return err
				}
				req.Ports = append(req.Ports, ports...)
			}
			ctx, cancel := a.request()
			defer cancel()
			got, err := a.client().Unpublish(ctx, req)
			if err != nil {
				return err
			}
			return a.printPublished([]api.Publication{got})
		},
	}, formatsOne)
}

// notOne refuses a container without ports.
func notOne(_ *cobra.Command, args []string) error {
	if len(args) == 1 {
		return fmt.Errorf("say which ports of %s, such as 8080:80", args[0])
	}
	return nil
}

func publications(list []api.Attachment) []api.Publication {
	out := []api.Publication{}
	for _, at := range list {
		if len(at.Published) > 0 {
			out = append(out, api.Publication{Container: at.Container, Address: at.Address.Addr(), Ports: at.Published})
		}
	}
	return out
}

func (a *app) printPublished(list []api.Publication) error {
	if a.output == "json" {
		return a.json(list)
	}
	rows := [][]string{{"CONTAINER", "HOST", "CONTAINER-PORT", "PROTOCOL"}}
	for _, p := range list {
		for _, m := range p.Ports {
			host := strconv.Itoa(int(m.HostPort))
			if m.HostIP.IsValid() {
				host = m.HostIP.String() + ":" + host
			}
			rows = append(rows, []string{p.Container, host, fmt.Sprintf("%s:%d", p.Address, m.Port), m.Protocol})
		}
	}
	return a.table(rows)
}

// mostPorts of one range.
const mostPorts = 1024

// mappings reads [HOSTIP:]HOSTPORT[:PORT][/PROTOCOL], with a range of ports for
// each port. The container's may only be left out where whole is false.
func mappings(s string, whole bool) ([]api.PortMapping, error) {
	wrong := func(why string) ([]api.PortMapping, error) {
		return nil, usage("%q is no port to be published, such as 8080:80 or 192.0.2.1:53:53/udp: %s", s, why)
	}
	rest, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return wrong("the protocol is tcp or udp")
	}
	parts := strings.Split(rest, ":")
	var ip netip.Addr
	if strings.Contains(parts[0], ".") {
		var err error
		if ip, err = netip.ParseAddr(parts[0]); err != nil || !ip.Is4() {
			return wrong(parts[0] + " is not an IPv4 address")
		}
		parts = parts[1:]
	}
	if len(parts) == 0 || len(parts) > 2 || whole && len(parts) != 2 {
		return wrong("it is HOSTPORT:PORT, after an IPv4 address of the host where only that is meant")
	}
	host, n, err := ports(parts[0])
	if err != nil {
		return wrong(err.Error())
	}
	var inside, m int
	if len(parts) == 2 {
		if inside, m, err = ports(parts[1]); err != nil {
			return wrong(err.Error())
		}
		if n != m {
			return wrong("the two ranges differ in length")
		}
	}
	var out []api.PortMapping
	for i := range n {
		p := api.PortMapping{Protocol: protocol, HostIP: ip, HostPort: uint16(host + i)}
		if inside != 0 {
			p.Port = uint16(inside + i)
		}
		out = append(out, p)
	}
	return out, nil
}

// ports reads a port or a range of them: the first, and how many.
func ports(s string) (first, n int, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	lo, err := strconv.ParseUint(from, 10, 16)
	hi, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || lo == 0 || hi < lo {
		return 0, 0, fmt.Errorf("%q is no port between 1 and 65535, nor a range of them", s)
	}
	if hi-lo >= mostPorts {
		return 0, 0, fmt.Errorf("%q has more than %d ports", s, mostPorts)
	}
	return int(lo), int(hi-lo) + 1, nil
}
