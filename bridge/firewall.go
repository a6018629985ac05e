package bridge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// firewallEvery is how often the firewall is compared with what it should be
// while the config stays the same and nobody says that it changed: each look
// costs a few processes.
const firewallEvery = time.Second

// firewall keeps weft's own table and its accepting rules in place.
type firewall struct {
	wrote  string // the config that was last written
	listed string // the kernel's own words for it
	looked time.Time
}

// FirewallChanged makes the next Set look at the firewall, however soon.
func (b *Bridge) FirewallChanged() { b.firewall.looked = time.Time{} }

func (f *firewall) set(cfg Config) error {
	want := fmt.Sprintf("%v %v %v %v", masquerade(cfg), guard(cfg), clamp(cfg), wantedAccepts(cfg))
	if want == f.wrote && time.Since(f.looked) < firewallEvery {
		return nil
	}
	f.looked = time.Now()
	_, err := syncAccepts(mark(cfg.Name), wantedAccepts(cfg))
	if err := errors.Join(f.setTable(cfg, want), err); err != nil {
		f.wrote = ""
		return fmt.Errorf("set up the firewall: %w", err)
	}
	f.wrote = want
	return nil
}

func (f *firewall) setTable(cfg Config, want string) error {
	if want == f.wrote {
		// Stateless: without counters, which change by themselves.
		if now, err := nft("", "-s", "list", "table", "inet", tableName(cfg.Name)); err == nil && now == f.listed {
			return nil
		}
	}
	table, err := knftables.New(knftables.InetFamily, tableName(cfg.Name))
	if err != nil {
		return err
	}
	tx := table.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{}) // with the Add before, no error where there was none
	tx.Add(&knftables.Table{})
	tx.Add(&knftables.Chain{Name: "postrouting", Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(knftables.SNATPriority)})
	for _, r := range masquerade(cfg) {
		tx.Add(&knftables.Rule{Chain: "postrouting", Rule: r})
	}
	addGuard(tx, cfg)
	if err := table.Run(context.Background(), tx); err != nil {
		return err
	}
	f.listed, err = nft("", "-s", "list", "table", "inet", tableName(cfg.Name))
	return err
}

// addGuard adds the chains that keep plaintext where it is allowed, and segments
// small enough.
func addGuard(tx *knftables.Transaction, cfg Config) {
	g := guard(cfg)
	for _, c := range []struct {
		name     string
		hook     knftables.BaseChainHook
		priority knftables.BaseChainPriority
		rules    []string
	}{
		{"guard-arriving", knftables.PreroutingHook, knftables.RawPriority, g.arriving},
		{"guard-leaving", knftables.PostroutingHook, knftables.RawPriority, g.leaving},
		{"guard-tunnel-in", knftables.InputHook, knftables.RawPriority, g.tunnelIn},
		{"guard-tunnel-out", knftables.OutputHook, knftables.RawPriority, g.tunnelTo},
		{"clamp", knftables.ForwardHook, knftables.ManglePriority, clamp(cfg)},
	} {
		if len(c.rules) == 0 {
			continue
		}
		tx.Add(&knftables.Chain{Name: c.name, Type: knftables.PtrTo(knftables.FilterType), Hook: knftables.PtrTo(c.hook), Priority: knftables.PtrTo(c.priority)})
		for _, r := range c.rules {
			tx.Add(&knftables.Rule{Chain: c.name, Rule: r})
		}
	}
}

// removeTable removes weft's table; removed is false if there was none.
func removeTable(bridge string) (removed bool, err error) {
	if _, err := nft("", "list", "table", "inet", tableName(bridge)); err != nil {
		return false, nil
	}
	_, err = nft("", "delete", "table", "inet", tableName(bridge))
	return err == nil, err
}

// nft runs the program in the caller's network namespace.
func nft(stdin string, args ...string) (string, error) {
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		line, _, _ := strings.Cut(strings.TrimSpace(string(failed.Stderr)), "\n")
		err = errors.New(line)
	}
	if err != nil {
		return "", fmt.Errorf("nft %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
