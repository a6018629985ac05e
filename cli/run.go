package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

// exitStatus is that of a program which ran instead of this one.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Engines that run starts containers with.
const (
	engineDocker = "docker"
	enginePodman = "podman"
)

func (a *app) run() *cobra.Command {
	var req api.AttachRequest
	var ips []string
	var subnet string
	eng := engineDocker
	cmd := &cobra.Command{
		Use:   "run [flags] -- DOCKER-RUN-ARGUMENTS…",
		Short: "Start a container that is on the network before its process begins",
		Long: `Start a container that is on the network before its process begins.

What follows -- is for 'docker run' (or 'podman run'), which does all the rest:
the terminal, -d, --rm, names, and the exit code. The container has no other
network unless Docker is given a --network.

With Docker, the container's entry point is a short wait for the interface, by
this program, which is mounted read-only at /.weft; it gives way to the entry
point that there would be. So the process finds its interface and address also
when the container is restarted, by whomever, and after the machine was.

With podman, a hook of the OCI runtime attaches the container. It is there for
this start only: later ones are attached a moment after they begin.`,
		Example: `  weft run -- -it --rm debian bash
  weft run --ip 10.32.0.77 -- -d --name web --restart always nginx
  weft run --subnet 10.40.0.0/16 -- -d redis
  weft run --engine podman -- -d docker.io/library/nginx`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if err := a.readWishes(&req, ips, subnet); err != nil {
				return err
			}
			// Before anything is started: is there a network to be put on?
			ctx, cancel := a.request()
			defer cancel()
			if _, err := a.client().Version(ctx); err != nil {
				return err
			}
			if eng == enginePodman {
				return a.runPodman(req, args)
			}
			return a.runDocker(req, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().Var(&choice{&eng, []string{engineDocker, enginePodman}}, "engine", "`engine` that runs it: docker, podman")
	cmd.Flags().StringArrayVar(&ips, "ip", nil, "`address` that it is to have; again for more on the same interface")
	cmd.Flags().StringVar(&req.Interface, "ifname", "", "`name` of the interface inside (default eth0, or eth1 beside a network of Docker)")
	cmd.Flags().StringVar(&subnet, "subnet", "", "`prefix` in the range that the address is to be in (default that of launch's --default-subnet)")
	cmd.Flags().BoolVar(&req.NoDefaultRoute, "no-default-route", false, "give the container no default route")
	return cmd
}

// child runs a program in this one's place, as far as its user can see.
func (a *app) child(name string, args, env []string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, a.Stderr
	cmd.Env = append(os.Environ(), env...)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }() // ends with the child, for which we wait
	for {
		select {
		case s := <-signals:
			// What is typed goes to the child as well, by itself.
			if typed := s == syscall.SIGINT || s == syscall.SIGQUIT; !typed || !terminal(a.Stdin) {
				_ = cmd.Process.Signal(s) // it may have ended this moment
			}
		case err := <-done:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
					return exitStatus(128 + int(ws.Signal()))
				}
				return exitStatus(exit.ExitCode())
			}
			return err
		}
	}
}

// dockerSocket is where the command line of Docker goes.
func (a *app) dockerSocket() (string, error) {
	host, ok := a.Env("DOCKER_HOST")
	if !ok || host == "" {
		return daemon.DefaultDockerSocket, nil
	}
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return "", usage("DOCKER_HOST is %s: weft can only attach containers of this host's own Docker, at unix://…", host)
	}
	return path, nil
}

// runDocker has the command line of Docker speak to Docker through this
// process, which makes the container wait for its interface and attaches it.
func (a *app) runDocker(req api.AttachRequest, args []string) error {
	socket, err := a.dockerSocket()
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "weft-run")
	if err != nil {
		return fmt.Errorf("make a directory for the way to Docker: %w", err)
	}
	defer os.RemoveAll(dir)
	p := newDockerProxy(socket, program, req, func(req api.AttachRequest) error {
		ctx, cancel := a.request()
		defer cancel()
		_, err := a.client().Attach(ctx, req)
		return err
	})
	between := filepath.Join(dir, "docker.sock")
	if err := p.listen(between); err != nil {
		return err
	}
	defer p.close()
	return a.child(engineDocker, append([]string{"run"}, args...), []string{"DOCKER_HOST=unix://" + between, "DOCKER_CONTEXT="})
}

// runPodman has podman call this program as a hook of the OCI runtime.
func (a *app) runPodman(req api.AttachRequest, args []string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "weft-run")
	if err != nil {
		return fmt.Errorf("make a directory for podman's hook: %w", err)
	}
	defer os.RemoveAll(dir)
	socket, err := filepath.Abs(a.socket)
	if err != nil {
		return fmt.Errorf("make %s absolute: %w", a.socket, err)
	}
	wishes, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode what is asked for: %w", err)
	}
	hook, err := json.Marshal(map[string]any{
		"version": "1.0.0",
		"hook":    map[string]any{"path": program, "args": []string{"weft", "hook", "--socket", socket, string(wishes)}},
		"when":    map[string]any{"always": true},
		"stages":  []string{"createRuntime"},
	})
	if err != nil {
		return fmt.Errorf("encode podman's hook: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "weft.json"), hook, 0o600); err != nil {
		return fmt.Errorf("write podman's hook: %w", err)
	}
	full := []string{"--hooks-dir", dir}
	for _, others := range []string{"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"} {
		if _, err := os.Stat(others); err == nil {
			full = append(full, "--hooks-dir", others)
		}
	}
	return a.child(enginePodman, append(append(full, "run", "--network", "none"), args...), nil)
}

// hook is what an OCI runtime calls, with the state of a container on standard
// input, before the container's process begins.
func (a *app) hook() *cobra.Command {
	return &cobra.Command{
		Use: "hook WISHES", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var req api.AttachRequest
			var state struct {
				ID  string `json:"id"`
				Pid int    `json:"pid"`
			}
			if err := json.Unmarshal([]byte(args[0]), &req); err != nil {
				return fmt.Errorf("read what is asked for: %w", err)
			}
			if err := json.NewDecoder(a.Stdin).Decode(&state); err != nil {
				return fmt.Errorf("read the container's state: %w", err)
			}
			if state.ID == "" || state.Pid <= 0 {
				return fmt.Errorf("read the container's state: id %q, process %d", state.ID, state.Pid)
			}
			req.Container, req.Engine, req.ID = fmt.Sprintf("/proc/%d/ns/net", state.Pid), enginePodman, state.ID
			ctx, cancel := a.request()
			defer cancel()
			_, err := a.client().Attach(ctx, req)
			return err
		},
	}
}
