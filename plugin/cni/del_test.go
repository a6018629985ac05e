package cni

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/journal"
)

func deleting(t *testing.T, stateDir string) (*network, *skel.CmdArgs) {
	t.Helper()
	n, err := readNetwork([]byte(`{"name":"weft","timeout":"1s","socket":"` + filepath.Join(t.TempDir(), "s") + `","stateDir":"` + stateDir + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	return n, &skel.CmdArgs{ContainerID: "c", IfName: "eth0"}
}

func TestDeleteWithoutADaemonIsWrittenDownOnce(t *testing.T) {
	dir := t.TempDir()
	n, args := deleting(t, dir)
	for range 2 {
		if err := n.detach(args); err != nil {
			t.Fatal(err)
		}
	}
	j, err := journal.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	list, err := j.Entries()
	if err != nil || len(list) != 1 {
		t.Fatalf("entries: %v, %v", list, err)
	}
	var req api.DetachRequest
	if err := json.Unmarshal(list[0].Data, &req); err != nil || *req.Endpoint != (api.Endpoint{Network: "weft", Container: "c", Interface: "eth0"}) {
		t.Errorf("written: %s, %v", list[0].Data, err)
	}
}

func TestDeleteWhereThereIsNoStateSucceeds(t *testing.T) {
	n, args := deleting(t, filepath.Join(t.TempDir(), "none"))
	if err := n.detach(args); err != nil {
		t.Error(err)
	}
}

func TestDeleteWaitsForADaemonThatIsStarting(t *testing.T) {
	dir := t.TempDir()
	n, args := deleting(t, dir)
	j, err := journal.Open(t.Context(), dir) // as a daemon that does not answer yet
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	isCode(t, "one that never answers", n.detach(args), types.ErrTryAgainLater, "no weft daemon answers")

	n, args = deleting(t, dir)
	asked := make(chan error, 1)
	go func() { asked <- n.detach(args) }()
	l, err := net.Listen("unix", n.own.Socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	if err := <-asked; err != nil {
		t.Errorf("once it answers: %v", err)
	}
	srv.Close()
	<-served
	if list, err := j.Entries(); err != nil || len(list) != 0 {
		t.Errorf("written down: %v, %v", list, err)
	}
}
