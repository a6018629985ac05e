package store

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crashEnv makes this test binary a process that writes to a store: the first
// number that it has to write, the one at which it ends, and the state directory.
const crashEnv = "STORE_TEST_CRASH"

func TestMain(m *testing.M) {
	if job := os.Getenv(crashEnv); job != "" {
		var from, to int
		var dir string
		_, err := fmt.Sscan(job, &from, &to, &dir)
		if err == nil {
			err = writeRecords(dir, from, to)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// record is the n-th commit: what it adds varies in size, and it takes away one
// of three that were written before, so that pages are used again.
func record(n int) []Write {
	writes := []Write{
		{"records", fmt.Appendf(nil, "%08d", n), recordValue(n)},
		{"state", []byte("last"), []byte(strconv.Itoa(n))},
	}
	if old := n - 50; old >= 0 && old%3 == 0 {
		writes = append(writes, Write{"records", fmt.Appendf(nil, "%08d", old), nil})
	}
	return writes
}

func recordValue(n int) []byte {
	return []byte(strings.Repeat(strconv.Itoa(n)+",", 1+n*7%200))
}

// writeRecords commits numbered records and answers for each with a line.
func writeRecords(dir string, from, to int) error {
	s, err := Open(dir, true)
	if err != nil {
		return err
	}
	for n := from; n < to; n++ {
		if err := s.Commit(record(n)); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
	return s.Close()
}

// hasRecords checks that a store is sound and holds the result of the first n
// or n+1 commits, since one may be durable that was not answered yet. It
// returns how many.
func hasRecords(t *testing.T, s *Store, n int) int {
	t.Helper()
	isSound(t, s)
	last, err := s.Get("state", "last")
	if err != nil {
		t.Fatal(err)
	}
	have := 0
	if last != nil {
		have, err = strconv.Atoi(string(last))
		if err != nil {
			t.Fatal(err)
		}
		have++
	}
	if have != n && have != n+1 {
		t.Fatalf("it has %d commits; %d were answered", have, n)
	}
	all, err := s.All("records")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i := range have {
		if i%3 == 0 && i+50 < have {
			continue // taken away
		}
		if at == len(all) || string(all[at].Key) != fmt.Sprintf("%08d", i) || string(all[at].Value) != string(recordValue(i)) {
			t.Fatalf("record %d of %d is not there", i, have)
		}
		at++
	}
	if at != len(all) {
		t.Fatalf("%d records were not written or taken away", len(all)-at)
	}
	return have
}

func TestAnsweredCommitsOutliveAKilledProcess(t *testing.T) {
	const rounds = 300
	dir, written, answered := t.TempDir(), 0, 0
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{fmt.Sprintf("%s=%d %d %s", crashEnv, written, math.MaxInt, dir)}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// From before it opens the store to some commits later; in every second
		// round from the first commit on, however long that takes.
		reader, first := bufio.NewReader(out), ""
		if round%2 == 1 {
			if first, err = reader.ReadString('\n'); err != nil {
				t.Fatalf("seed %d, round %d: %v, the writer says %s", seed, round, err, errs.String())
			}
		}
		kill := time.AfterFunc(time.Duration(random.IntN(30_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		rest, err := io.ReadAll(reader)
		lines := first + string(rest)
		_ = cmd.Wait() // killed
		kill.Stop()
		if err != nil || errs.Len() > 0 {
			t.Fatalf("seed %d, round %d: %v, the writer says %s", seed, round, err, errs.String())
		}
		n := strings.Count(lines, "\n")
		answered += n
		s, err := Open(dir, true)
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		written = hasRecords(t, s, written+n)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d answered commits, none lost", rounds, answered)
	if answered < rounds/2 { // a slow disk answers few before the kill
		t.Errorf("only %d commits were answered in %d rounds", answered, rounds)
	}
}
