package cli

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

func (a *app) attach() *cobra.Command {
	var req api.AttachRequest
	var subnet string
	cmd := &cobra.Command{
		Use:   "attach CONTAINER [ADDRESS…]",
		Short: "Put a container on the network, and print its address",
		Long: `Put a container on the network, and print its address.

CONTAINER is the name or id of a running container of Docker, podman or
containerd, the name of a network namespace (ip netns), an absolute path to one,
or the id of a process in one. Where a name means several, docker:NAME,
podman:NAME, containerd:ID, netns:NAME and pid:ID say which. A container that
shares another's network is attached as that one. Containers of an engine are
followed: one that starts again gets its address back, one that is removed frees
it (launch --release-after).

ADDRESS asks for a certain address: one of
another host's is asked for there, and waited for until --timeout if that host is
down. Several are put on one interface, and further ones can be added later. The
same again changes nothing.

A subnet, by --subnet or as ADDRESS/LENGTH, is a network of its own: containers
in different ones do not reach each other, on any host, nor those in none. A
container that is attached with two has an address in each and reaches both.

With each IPv4 address goes an IPv6 one, which ends in it: weft ps shows both,
and where an address is asked for either may be said.`,
		Example: `  ip netns add c1 && weft attach c1
  weft attach c2 10.32.0.77
  weft attach c2 10.32.0.78 10.32.0.79   # two more for the same container
  weft attach c3 --subnet 10.40.1.0/24
  weft attach c3 10.40.2.7/24            # in a second subnet as well
  docker run -d --name web --network none nginx && weft attach web
  weft attach podman:web --ifname net1
  weft attach containerd:default/web
  weft attach /proc/4711/ns/net -o json`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if req.Container, err = containerArg(args[0]); err != nil {
				return err
			}
			if err := a.readWishes(&req, args[1:], subnet); err != nil {
				return err
			}
			ctx, cancel := a.request()
			defer cancel()
			got, err := a.client().Attach(ctx, req)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(got)
			}
			for _, p := range append([]netip.Prefix{got.Address}, got.More...) {
				fmt.Fprintln(a.Stdout, p.Addr())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Interface, "ifname", "", "`name` of the interface inside (default eth0, or eth1 where there is an eth0)")
	cmd.Flags().StringVar(&subnet, "subnet", "", "`prefix` in the range that the address is to be in (default that of launch's --default-subnet)")
	cmd.Flags().BoolVar(&req.NoDefaultRoute, "no-default-route", false, "give the container no default route")
	return a.withOutput(cmd, formatsOne)
}

// readWishes reads and checks the addresses, the subnet and the interface that
// somebody wants for a container.
func (a *app) readWishes(req *api.AttachRequest, addrs []string, subnet string) (err error) {
	if err := checkInterface(req.Interface); err != nil {
		return err
	}
	if subnet != "" {
		if req.Subnet, err = netip.ParsePrefix(subnet); err != nil || req.Subnet != req.Subnet.Masked() {
			return usage("subnet %q is not a network such as 10.40.0.0/16", subnet)
		}
	}
	ctx, cancel := a.request()
	defer cancel()
	for i := range addrs {
		addr, in, err := a.address(ctx, addrs[i:])
		if err != nil {
			return err
		}
		if in.IsValid() && req.Subnet.IsValid() && in != req.Subnet {
			return usage("the addresses are in two subnets, %s and %s: attach once for each", req.Subnet, in)
		}
		if in.IsValid() {
			req.Subnet = in
		}
		if i == 0 {
			req.Address = addr
		} else {
			req.More = append(req.More, addr)
		}
	}
	for _, addr := range append([]netip.Addr{req.Address}, req.More...) {
		if req.Subnet.IsValid() && addr.IsValid() && !req.Subnet.Contains(addr) {
			return usage("address %s is not in subnet %s", addr, req.Subnet)
		}
	}
	return nil
}

func (a *app) detach() *cobra.Command {
	return a.withOutput(&cobra.Command{
		Use:   "detach CONTAINER [ADDRESS]",
		Short: "Take a container off the network and free its addresses",
		Example: `  weft detach c1
  weft detach c1 10.32.0.77   # this address only`,
		Args:              arguments(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completeAttached,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			var req api.DetachRequest
			if req.Container, err = containerArg(args[0]); err != nil {
				return err
			}
			ctx, cancel := a.request()
			defer cancel()
			if req.Address, _, err = a.address(ctx, args[1:]); err != nil {
				return err
			}
			gone, err := a.client().Detach(ctx, req)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(gone)
			}
			for _, g := range gone {
				if !g.Address.IsValid() {
					continue // of a stopped container, and free already
				}
				fmt.Fprintln(a.Stdout, g.Address.Addr())
			}
			return nil
		},
	}, formatsOne)
}

// containerArg checks a reference and makes a relative path absolute, since
// the daemon works elsewhere.
func containerArg(s string) (string, error) {
	if s == "" || len(s) > 4000 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		return "", usage("%q is no container: give the name or id of a container, the name of a network namespace, a path, or a process id", s)
	}
	if strings.Contains(s, "/") && !strings.HasPrefix(s, "containerd:") { // its ids have their namespace before them
		abs, err := filepath.Abs(s)
		if err != nil {
			return "", fmt.Errorf("make %s absolute: %w", s, err)
		}
		return abs, nil
	}
	return s, nil
}

// address reads the address among the arguments, if there is one. A prefix
// length that is given with it is the range's, which the daemon knows, or that
// of the subnet that it is meant to be in.
func (a *app) address(ctx context.Context, args []string) (addr netip.Addr, subnet netip.Prefix, err error) {
	if len(args) == 0 {
		return addr, subnet, nil
	}
	addr, bits, err := addressArg(args[0])
	if err != nil || bits < 0 {
		return addr, subnet, err
	}
	s, err := a.client().Status(ctx)
	if err != nil {
		return addr, subnet, err
	}
	switch whole := s.IPAM.Range.Bits(); {
	case bits < whole:
		return addr, subnet, usage("address %s has a prefix length of /%d, and the range %s has /%d", args[0], bits, s.IPAM.Range, whole)
	case bits > whole:
		subnet = netip.PrefixFrom(addr, bits).Masked()
	}
	return addr, subnet, nil
}

// addressArg reads an address, with or without a prefix length (-1: without).
func addressArg(s string) (netip.Addr, int, error) {
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return p.Addr(), p.Bits(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return addr, -1, usage("%q is not an address such as 10.32.0.77", s)
	}
	return addr, -1, nil
}

func checkInterface(name string) error {
	if name == "" {
		return nil
	}
	if len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/ \t:%") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' }) {
		return usage("interface name %q is not 1 to 15 bytes without blanks, / and colons", name)
	}
	return nil
}
