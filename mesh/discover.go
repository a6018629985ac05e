package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A target is what a user says to join:
//
//	192.0.2.1, 192.0.2.1:6783   an address
//	seeds.example, …:6783       a name; all of its addresses, looked up again and again
//	file:/etc/weft/peers        a file with a target on each line, read again and again
//	exec:/usr/bin/discover …    a program that prints a target on each line, run again and again
//	multicast:                  all hosts with the same token on the network segment
//
// Lines of files and programs may be addresses and names; what follows a # in
// them is a remark. The program is called without a shell.
const (
	targetFile = "file:"
	targetExec = "exec:"
	targetCast = "multicast:"
)

const (
	lookupTime = 10 * time.Second // one look-up may take
	maxListing = 1 << 20          // bytes of a file or of what a program prints
	maxTargets = 4096             // addresses that one target may lead to
)

// CheckTarget finds what is wrong with a target without looking at the host or
// the network.
func CheckTarget(target string) error {
	path, isFile := strings.CutPrefix(target, targetFile)
	program, isExec := strings.CutPrefix(target, targetExec)
	switch {
	case !utf8.ValidString(target) || strings.ContainsFunc(target, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }):
		return fmt.Errorf("target %q has in it what cannot be printed", target)
	case target == targetCast:
		return nil
	case isFile && !strings.HasPrefix(path, "/"):
		return fmt.Errorf("target %q needs an absolute path after %s", target, targetFile)
	case isFile:
		return nil
	case isExec && !strings.HasPrefix(strings.TrimSpace(program), "/"):
		return fmt.Errorf("target %q needs the absolute path of a program after %s", target, targetExec)
	case isExec:
		return nil
	case strings.HasPrefix(target, "provider="):
		return fmt.Errorf("target %q: the clouds' own ways of discovery are not built in; a program that lists the hosts does it: exec:/path/to/program with its arguments", target)
	}
	return checkHost(target)
}

// checkHost is CheckTarget for an address or a name, with a port or without.
func checkHost(target string) error {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		host, port = strings.Trim(target, "[]"), "1"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	_, notAddress := netip.ParseAddr(host)
	if err != nil || n == 0 || host == "" || len(host) > 253 || notAddress != nil && strings.ContainsAny(host, " \t\r\n/:,=#[]@\\\"'") {
		return fmt.Errorf("%q is not a host or host:port to join", target)
	}
	return nil
}

// Finder finds out where targets lead to.
type Finder struct {
	Token Token        // of the hosts that are looked for
	Port  uint16       // of this host's gossip, and of targets without one
	Own   []netip.Addr // this host's addresses, on whose segments it asks
}

// Lookup returns the addresses, each with a port, that a target leads to now, in
// order.
func (f Finder) Lookup(ctx context.Context, target string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	hosts, port := []string{target}, f.Port
	var err error
	if target == targetCast {
		hosts, err = f.Token.askSegments(ctx, f.Own)
		hosts = slices.DeleteFunc(hosts, f.isSelf)
	}
	if path, ok := strings.CutPrefix(target, targetFile); ok {
		hosts, err = listed(readListing(path))
	} else if program, ok := strings.CutPrefix(target, targetExec); ok {
		hosts, err = listed(runListing(ctx, strings.Fields(program)))
	}
	if err != nil {
		return nil, fmt.Errorf("look up target %s: %w", target, err)
	}
	var out []string
	if len(hosts) == 0 {
		return nil, fmt.Errorf("look up target %s: it leads to no host", target)
	}
	var errs []error
	for _, host := range hosts {
		found, err := lookupHost(ctx, host, port)
		out, errs = append(out, found...), append(errs, err)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) > maxTargets {
		return nil, fmt.Errorf("look up target %s: it leads to %d addresses, more than %d", target, len(out), maxTargets)
	}
	if err := errors.Join(errs...); err != nil && len(out) == 0 {
		return nil, fmt.Errorf("look up target %s: %w", target, err)
	}
	return out, nil // some of several names may be wrong
}

// isSelf tells whether this host's gossip is at an address.
func (f Finder) isSelf(at string) bool {
	return slices.ContainsFunc(f.Own, func(a netip.Addr) bool { return netip.AddrPortFrom(a, f.Port).String() == at })
}

func lookupHost(ctx context.Context, target string, port uint16) ([]string, error) {
	host, at := strings.Trim(target, "[]"), strconv.Itoa(int(port))
	if h, p, err := net.SplitHostPort(target); err == nil {
		host, at = h, p
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(host, at)}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = net.JoinHostPort(a.Unmap().String(), at)
	}
	return out, nil
}

func readListing(path string) ([]byte, error) {
	// To open a pipe waits for whoever writes into it.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// readAll reads what is no longer than maxListing: of a part the end could be cut off
// within an address.
func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxListing+1))
	if len(b) > maxListing {
		return nil, fmt.Errorf("more than %d bytes", maxListing)
	}
	return b, err
}

func runListing(ctx context.Context, command []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b, err := readAll(out)
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("%w: %s", e, clip(strings.TrimSpace(complaint.String())))
	}
	return b, err
}

// listed reads the lines of a file or a program.
func listed(text []byte, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for _, host := range strings.FieldsFunc(line, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
			if err := checkHost(host); err != nil {
				return nil, err
			}
			out = append(out, host)
		}
	}
	return out, nil
}
