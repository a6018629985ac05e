package bridge

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// Other programs drop what they do not know: dockerd sets the policy of
// FORWARD to DROP, and with bridge-nf-call-iptables even frames between two
// ports of a bridge pass there. An accept in weft's own table would not
// override that, so weft adds the rules that it needs where the dropping
// happens, and only there. It never makes a table or a chain.

const (
	filterTable  = "filter"
	forwardChain = "FORWARD"
	dockerChain  = "DOCKER-USER" // where Docker lets others speak first
	iptablesNFT  = "iptables-nft"
)

// acceptRules let weft's devices forward, and answers come back to the bridge
// from the outside.
func acceptRules(bridge string, devices []string) [][]string {
	mark := []string{"-m", "comment", "--comment", "weft " + bridge}
	var out [][]string
	for _, d := range devices {
		out = append(out, slices.Concat([]string{"-i", d}, mark, []string{"-j", "ACCEPT"}))
	}
	return append(out, slices.Concat([]string{"-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}, mark, []string{"-j", "ACCEPT"}))
}

func setAccepts(bridge string, devices []string) error {
	var errs []error
	for _, ipt := range backends() {
		errs = append(errs, acceptIn(ipt, bridge, devices))
	}
	return errors.Join(append(errs, setNativeAccepts(bridge, devices))...)
}

// acceptIn puts the rules into Docker's chain or, without Docker, into FORWARD.
func acceptIn(ipt *iptables.IPTables, bridge string, devices []string) error {
	forward, err := ipt.List(filterTable, forwardChain)
	if err != nil {
		return fmt.Errorf("list %s: %w", forwardChain, err)
	}
	chains, err := ipt.ListChains(filterTable)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	want := ""
	switch {
	case slices.Contains(chains, dockerChain):
		want = dockerChain
	case couldDrop(forward, bridge):
		want = forwardChain
	}
	for _, chain := range []string{dockerChain, forwardChain} {
		if !slices.Contains(chains, chain) {
			continue
		}
		for _, rule := range acceptRules(bridge, devices) {
			if chain == want {
				err = ipt.InsertUnique(filterTable, chain, 1, rule...)
			} else {
				err = ipt.DeleteIfExists(filterTable, chain, rule...)
			}
			if err != nil {
				return fmt.Errorf("rule in %s: %w", chain, err)
			}
		}
	}
	return nil
}

// couldDrop tells whether FORWARD does anything but accept, our own rules apart.
func couldDrop(forward []string, bridge string) bool {
	return slices.ContainsFunc(forward, func(line string) bool {
		return line != "-P "+forwardChain+" ACCEPT" && !strings.Contains(line, `"weft `+bridge+`"`)
	})
}

// backends are the iptables whose FORWARD chain exists already: asking one
// that is not in use would make its table.
func backends() []*iptables.IPTables {
	var out []*iptables.IPTables
	add := func(names ...string) {
		for _, name := range names {
			path, err := exec.LookPath(name)
			if err != nil {
				continue
			}
			if ipt, err := iptables.New(iptables.Path(path), iptables.Timeout(5)); err == nil {
				out = append(out, ipt)
				return
			}
		}
	}
	if _, err := nft("list", "chain", "ip", filterTable, forwardChain); err == nil {
		add(iptablesNFT)
	}
	// Of the calling thread: it may be in another namespace than the process.
	if b, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil && slices.Contains(strings.Fields(string(b)), filterTable) {
		add("iptables-legacy", "iptables")
	}
	return out
}

// removeAccepts takes back all rules, wherever they are.
func removeAccepts(bridge string, devices []string) (removed []string, err error) {
	for _, ipt := range backends() {
		for _, chain := range []string{dockerChain, forwardChain} {
			if ok, e := ipt.ChainExists(filterTable, chain); e != nil || !ok {
				continue
			}
			for _, rule := range acceptRules(bridge, devices) {
				there, e := ipt.Exists(filterTable, chain, rule...)
				if e == nil && there {
					if e = ipt.Delete(filterTable, chain, rule...); e == nil {
						removed = append(removed, "iptables rules in "+chain)
					}
				}
				if e != nil {
					err = errors.Join(err, fmt.Errorf("remove rule from %s: %w", chain, e))
				}
			}
		}
	}
	more, e := removeNativeAccepts(bridge)
	return append(removed, more...), errors.Join(err, e)
}
