package e2e

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

func TestPluginOpensPortsOfTheHost(t *testing.T) {
	_, hosts := launched(t, 2)
	h, far := hosts[0], hosts[1]
	installed(t, h)
	e := newEngine(t, h, `{"cniVersion": "1.1.0", "name": "weft", "plugins": [
		{"type": "weft-cni", "capabilities": {"portMappings": true}}]}`)
	ports := map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": endPort, "protocol": "tcp"}}}
	c := h.Container("c1")
	rt := attachment("c1", ports)
	addr := addressOf(e.add(rt))
	c.Start("perl", "-e", whoAsks)
	netlab.Eventually(t, "the port leads to the container, which sees who asks", func() bool {
		return ask(far, "192.0.2.1", 8080) == far.Addr.String()
	})
	gateway, _, _ := strings.Cut(status(t, h).Bridge.Gateway.String(), "/")
	if got := ask(h, "127.0.0.1", 8080); got != gateway {
		t.Errorf("by 127.0.0.1 it sees %q", got)
	}
	if again := addressOf(e.add(rt)); again != addr {
		t.Errorf("ADD again gives %s, it was %s", again, addr)
	}
	h.Container("c2")
	taken := attachment("c2", ports)
	if _, err := e.cni.AddNetworkList(context.Background(), e.list, taken); err == nil || !strings.Contains(err.Error(), "8080") {
		t.Errorf("ADD with a port that is taken: %v", err)
	}
	if list := listed(t, h); len(list) != 1 {
		t.Errorf("after an ADD that failed there are %+v", list)
	}
	e.add(attachment("c2", nil))
	before := listed(t, h)
	if _, err := e.cni.AddNetworkList(context.Background(), e.list, taken); err == nil || !strings.Contains(err.Error(), "8080") {
		t.Errorf("ADD again with a port that is taken: %v", err)
	}
	if list := listed(t, h); !reflect.DeepEqual(list, before) {
		t.Errorf("ADD again with a port that is taken changed %+v to %+v", before, list)
	}
	if err := e.cni.DelNetworkList(context.Background(), e.list, rt); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if got := ask(far, "192.0.2.1", 8080); got != "refused" {
		t.Errorf("after DEL the port answers %q", got)
	}
}
