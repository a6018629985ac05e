package daemon

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/internal/nl"
)

func TestProbePortThatAnotherProgramHasIsFoundOut(t *testing.T) {
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		if err := checkProbePort(); err != nil {
			return fmt.Errorf("while it is free: %w", err)
		}
		other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: probe.Port})
		if err != nil {
			return err
		}
		defer other.Close()
		if err := checkProbePort(); err == nil || !strings.Contains(err.Error(), "UDP port 6786") {
			t.Errorf("a launch says %v", err)
		}
		d := &Daemon{health: health{failing: map[string]error{}}}
		if text := checkProbing(d); text != "" {
			t.Errorf("before a probe was sent: %s", text)
		}
		d.health.failing["probe"] = probe.CheckPort()
		if text := checkProbing(d); !strings.Contains(text, "UDP port 6786") {
			t.Errorf("status says %q", text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEveryWarningIsExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conditions {
		if !strings.Contains(string(text), "\n| `"+c.code+"` |") {
			t.Errorf("docs/hosts.md does not say what %s means", c.code)
		}
	}
}
