package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

// runtimeHosts makes a mesh of hosts on which container engines can run, and the
// control group that is the parent of all of theirs. Nothing of it is left: the
// group is removed once the hosts, and so their processes, have ended.
func runtimeHosts(t *testing.T, n int) (hosts []*netlab.Host, cgroup string) {
	t.Helper()
	cgroup = fmt.Sprintf("weft-e2e-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() { removeCgroups(t, cgroup) }) // before the lab's, so that it comes after
	_, hosts = launchedAlone(t, n)
	for _, h := range hosts {
		// A lab's host has its own /sys, in which there are no control groups.
		h.Run("umount", "--lazy", "/sys")
	}
	return hosts, cgroup
}

func removeCgroups(t *testing.T, name string) {
	t.Helper()
	var left []string
	for range 100 {
		left = nil
		for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
			found, _ := filepath.Glob(pattern)
			left = append(left, found...)
		}
		if len(left) == 0 {
			return
		}
		for _, dir := range left {
			// The deepest first; what a dying process is in is refused for a moment.
			_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("control groups are left: %v", left)
}

// pauseImage builds an image with one program that waits for its end, as an
// archive that engines can load under the name localhost/pause:1.
func pauseImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "pause.c"), filepath.Join(dir, "pause")
	code := "#include <signal.h>\n#include <unistd.h>\nstatic void end(int s) { _exit(0); }\n" +
		"int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-static", "-Os", "-s", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("build pause: %v: %s", err, out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	layer := archive(t, file{"pause", 0o755, binary})
	config := encodeJSON(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	manifest := encodeJSON(t, []map[string]any{{"Config": "config.json", "RepoTags": []string{"localhost/pause:1"}, "Layers": []string{"layer.tar"}}})
	path := filepath.Join(dir, "pause.tar")
	image := archive(t, file{"config.json", 0o644, config}, file{"layer.tar", 0o644, layer}, file{"manifest.json", 0o644, manifest})
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encodeJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
