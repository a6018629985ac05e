package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/daemon"
)

const (
	awaitEvery = 2 * time.Millisecond
	// awaitQuiet is how long a container waits before it says so.
	awaitQuiet = 5 * time.Second
)

// Exit codes of a shell for a program that is not there, or cannot be run.
const (
	exitNoProgram  = 127
	exitNotProgram = 126
)

// await is the first process of a container: it waits until an interface is
// ready, and becomes the program that follows. It needs nothing of the
// container but /sys.
func (a *app) await() *cobra.Command {
	cmd := &cobra.Command{
		Use: "await INTERFACE PROGRAM [ARGUMENT…]", Hidden: true, Args: cobra.MinimumNArgs(2),
		// The environment is that of the container's program.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(_ *cobra.Command, args []string) error {
			if err := a.awaitInterface(args[0]); err != nil {
				return err
			}
			return become(args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (a *app) awaitInterface(name string) error {
	// The first process of a container gets no signal that it does not ask for.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(ended)
	alias := filepath.Join("/sys/class/net", name, "ifalias")
	began, said := time.Now(), false
	for {
		b, err := os.ReadFile(alias)
		if err == nil && strings.TrimSpace(string(b)) == daemon.ReadyAlias {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at interface %s: %w", name, err)
		}
		if time.Since(began) > awaitQuiet && !said {
			said = true
			a.say("weft: waiting for interface %s: does `weft launch` run on the host, and does `weft ps` there list this container?", name)
		}
		select {
		case s := <-ended:
			return exitStatus(128 + int(s.(syscall.Signal)))
		case <-time.After(awaitEvery):
		}
	}
}

// become is the end of this program in favour of another.
func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fmt.Fprintf(os.Stderr, "weft: start %s: %v\n", args[0], err)
	if errors.Is(err, fs.ErrPermission) {
		return exitStatus(exitNotProgram)
	}
	return exitStatus(exitNoProgram)
}
