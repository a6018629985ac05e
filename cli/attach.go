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

CONTAINER is the name of a network namespace (ip netns), an absolute path to
one, or the id of a process in one. ADDRESS asks for a certain address: one of
another host's is asked for there, and waited for until --timeout if that host is
down. Several are put on one interface, and further ones can be added later. The
same again changes nothing.

With each IPv4 address goes an IPv6 one, which ends in it: weft ps shows both,
and where an address is asked for either may be said.`,
		Example: `  ip netns add c1 && weft attach c1
  weft attach c2 10.32.0.77
  weft attach c2 10.32.0.78 10.32.0.79   # two more for the same container
  weft attach c3 --subnet 10.40.0.0/16
  weft attach $(docker inspect -f '{{.State.Pid}}' web) --ifname eth1
  weft attach /proc/4711/ns/net -o json`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if req.Container, err = containerArg(args[0]); err != nil {
				return err
			}
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
			for i := range args[1:] {
				addr, err := a.address(ctx, args[1+i:])
				if err != nil {
					return err
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
			if req.Address, err = a.address(ctx, args[1:]); err != nil {
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
		return "", usage("%q is no container: give the name of a network namespace, a path, or a process id", s)
	}
	if strings.Contains(s, "/") {
		abs, err := filepath.Abs(s)
		if err != nil {
			return "", fmt.Errorf("make %s absolute: %w", s, err)
		}
		return abs, nil
	}
	return s, nil
}

// address reads the address among the arguments, if there is one. A prefix
// length that is given with it has to be the range's, which the daemon knows.
func (a *app) address(ctx context.Context, args []string) (netip.Addr, error) {
	if len(args) == 0 {
		return netip.Addr{}, nil
	}
	addr, bits, err := addressArg(args[0])
	if err != nil || bits < 0 {
		return addr, err
	}
	s, err := a.client().Status(ctx)
	if err != nil {
		return addr, err
	}
	if s.IPAM.Range.Bits() != bits {
		return addr, usage("address %s has a prefix length of /%d, and the range %s has /%d", args[0], bits, s.IPAM.Range, s.IPAM.Range.Bits())
	}
	return addr, nil
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
