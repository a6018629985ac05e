package wgproc

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
)

// ready is what the program writes to standard output, once, when it can be
// configured. Anything else that it writes there says why it cannot.
const ready = "ready\n"

// detachFlag asks the program to start itself again and end when that is ready.
const detachFlag = "--detach"

// softwareFlag tells the version to whoever looks at the process.
const softwareFlag = "--software="

// Main is Run as a program, until SIGTERM or SIGINT, with its log on standard
// error. Its arguments are those that Process.Start gives it.
func Main(args []string) error {
	var c Config
	f := flag.NewFlagSet("wg", flag.ContinueOnError)
	f.StringVar(&c.Device, "device", "", "name of the device")
	f.StringVar(&c.Alias, "alias", "", "alias of the device")
	f.IntVar(&c.MTU, "mtu", 0, "MTU of the device")
	f.StringVar(&c.Dir, "state-dir", "", "directory of lock and log")
	f.String("software", "", "version of the program, to be seen in the list of processes")
	succeeds := f.Bool("succeed", false, "take the place of the process that runs")
	apart := f.Bool("detach", false, "start it, and end when it is ready")
	if err := f.Parse(args); err != nil {
		return err
	}
	tell := func(word string) {
		fmt.Fprint(os.Stdout, word)
		os.Stdout.Close() // whoever waits for a word waits for its end
	}
	if *apart {
		err := detach(c)
		if err != nil {
			tell(err.Error())
			return err
		}
		tell(ready)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(boundedLog{logPath(c.Dir, c.Device)}, nil))
	run, isReady := Run, false
	if *succeeds {
		run = Succeed
	}
	err := run(ctx, c, log, func() { isReady = true; tell(ready) })
	if err != nil && !isReady {
		tell(err.Error())
	}
	if err != nil {
		log.Error("userspace WireGuard ends", "err", err)
	}
	return err
}

// detach runs this program again in a session of its own, with the log in a
// directory, and returns when it is ready. The caller ends then, so that the
// process is no child of a daemon that would have to reap it.
func detach(c Config) error {
	logFile, err := openLog(logPath(c.Dir, c.Device))
	if err != nil {
		return err
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	child := exec.Command("/proc/self/exe", slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return a == detachFlag })...)
	child.Args[0] = "weft"
	child.Dir, child.Stdout, child.Stderr = "/", w, logFile
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the process: %w", err)
	}
	const most = 4096
	word, err := io.ReadAll(io.LimitReader(r, most))
	if err == nil && string(word) == ready {
		return child.Process.Release()
	}
	_ = child.Wait() // ProcessState has what it says
	if len(word) == 0 {
		return fmt.Errorf("it ended without a word (%s): see %s", child.ProcessState, logFile.Name())
	}
	return errors.New(string(word))
}
