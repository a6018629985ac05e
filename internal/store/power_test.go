package store

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// op is one thing that a writer asked of the kernel, in its order.
type op struct {
	call string // pwrite64, ftruncate, fdatasync, fsync, rename, answer
	path string
	at   int64 // or the size
	data []byte
}

var traced = regexp.MustCompile(`^(?:\d+ +)?(pwrite64|ftruncate|fdatasync|fsync|renameat2?|rename|write)\((.*)`)
var openFile = regexp.MustCompile(`^\d+<([^>]*)>`)
var quoted = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)

// trace runs a writer of so many commits and returns what it did. strace sees
// what bbolt really asks of the kernel, and in which order.
func trace(t *testing.T, dir string, commits int) (ops []op) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-y", "-xx", "-s", "1000000", "-o", log,
		"-e", "trace=write,pwrite64,ftruncate,fdatasync,fsync,rename,renameat,renameat2", "/proc/self/exe")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[len(cmd.Args)-1] = exe
	cmd.Env = []string{fmt.Sprintf("%s=0 %d %s", crashEnv, commits, dir), "GOMAXPROCS=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v: %s", err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if m := traced.FindStringSubmatch(lines.Text()); m != nil {
			if o, ok := parseOp(t, m[1], m[2]); ok {
				ops = append(ops, o)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return ops
}

func parseOp(t *testing.T, call, args string) (o op, ok bool) {
	t.Helper()
	var text []string
	for _, m := range quoted.FindAllStringSubmatch(args, -1) {
		b, err := hex.DecodeString(strings.ReplaceAll(m[1], `\x`, ""))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, string(b))
	}
	if strings.HasPrefix(call, "rename") {
		return op{call: "rename", path: text[0]}, true
	}
	if call == "write" {
		return op{call: "answer"}, strings.HasPrefix(args, "1<")
	}
	m := openFile.FindStringSubmatch(args)
	if m == nil {
		t.Fatalf("the trace has %s(%.80s", call, args)
	}
	path := m[1]
	if strings.HasPrefix(path, `\x`) {
		b, err := hex.DecodeString(strings.ReplaceAll(path, `\x`, ""))
		if err != nil {
			t.Fatal(err)
		}
		path = string(b)
	}
	o = op{call: call, path: filepath.Base(path)}
	numbers := regexp.MustCompile(`, (\d+)`).FindAllStringSubmatch(quoted.ReplaceAllString(args, ""), -1)
	if len(numbers) > 0 {
		o.at, _ = strconv.ParseInt(numbers[len(numbers)-1][1], 10, 64)
	}
	if call == "pwrite64" {
		o.data = []byte(text[0])
	}
	return o, true
}

// apply is a file after a write, of which cut bytes are missing at the end.
func (o op) apply(file []byte, cut int) []byte {
	if o.call == "ftruncate" {
		return append(file[:min(len(file), int(o.at))], make([]byte, max(0, int(o.at)-len(file)))...)
	}
	data := o.data[:len(o.data)-cut]
	if end := int(o.at) + len(data); end > len(file) {
		file = append(file, make([]byte, end-len(file))...)
	}
	copy(file[o.at:], data)
	return file
}

// losses are the files that a loss of power can leave: of the writes since the
// last sync, any may have reached the disk, and one in part.
func losses(durable []byte, pending []op, visit func([]byte)) {
	const most = 8 // of which all subsets are tried; the first are there, then
	sure := max(0, len(pending)-most)
	for set := range 1 << (len(pending) - sure) {
		last := sure + bits.Len(uint(set)) - 1
		var tears = []int{0}
		if set > 0 {
			n := len(pending[last].data)
			tears = []int{0, n / 2, max(0, n-512), max(0, n-50)}
		}
		for _, cut := range slices.Compact(tears) {
			file := slices.Clone(durable)
			for i, o := range pending {
				switch {
				case i == last:
					file = o.apply(file, cut)
				case i < sure || set>>(i-sure)&1 == 1:
					file = o.apply(file, 0)
				}
			}
			visit(file)
		}
	}
}

func TestAnsweredCommitsOutliveALossOfPowerAtAnyWrite(t *testing.T) {
	const commits = 60
	dir := t.TempDir()
	ops := trace(t, dir, commits)
	var durable []byte
	var pending []op
	named, made := false, false // the store has its name, durably
	answered, tried, before, after := 0, 0, 0, 0
	check := func(file []byte) {
		tried++
		dir := t.TempDir()
		defer os.RemoveAll(dir)
		if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, false)
		if err != nil {
			t.Fatalf("after %d answers: %v", answered, err)
		}
		defer s.Close()
		if hasRecords(t, s, answered) == answered {
			before++
		} else {
			after++
		}
	}
	for _, o := range ops {
		switch {
		case o.call == "answer":
			if answered++; len(pending) > 0 || !made {
				t.Fatalf("answer %d was given before all was durable", answered)
			}
		case o.call == "rename":
			if named = true; len(pending) > 0 {
				t.Fatal("the store was named before it was durable")
			}
		case o.call == "fsync" && o.path == filepath.Base(dir):
			made = made || named
		case o.path != fileName && o.path != newName:
		case o.call == "fdatasync" || o.call == "fsync":
			if named {
				losses(durable, pending, check)
			}
			for _, p := range pending {
				durable = p.apply(durable, 0)
			}
			pending = nil
		default:
			pending = append(pending, o)
		}
	}
	t.Logf("%d files after a loss of power during %d commits: %d with the state before, %d with the one after", tried, answered, before, after)
	have, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || !slices.Equal(have, durable) {
		t.Errorf("what was traced is not what was written (%v)", err)
	}
	if answered != commits || before < 10*commits || after < commits {
		t.Errorf("%d answers, %d and %d files", answered, before, after)
	}
}
