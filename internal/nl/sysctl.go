package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const sysctlRoot = "/proc/sys/net"

// writableRoot is where a container that may not write to its own /proc/sys can
// have the host's. It shows those of the process's network namespace, too.
const writableRoot = "/host/proc/sys/net"

// Sysctl reads a network sysctl of the calling thread's network namespace,
// named by its path below net: "ipv4/conf/weft/proxy_arp". The error wraps
// ErrNotFound if this kernel or namespace has none of that name.
func Sysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctlRoot, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("sysctl net/%s: %w", key, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SetSysctl writes a network sysctl if its value differs.
func SetSysctl(key, value string) error {
	old, err := Sysctl(key)
	if err != nil {
		return err
	}
	if old == value {
		return nil
	}
	err = os.WriteFile(filepath.Join(sysctlRoot, key), []byte(value), 0o644)
	if errors.Is(err, unix.EROFS) {
		if e := os.WriteFile(filepath.Join(writableRoot, key), []byte(value), 0o644); !errors.Is(e, fs.ErrNotExist) {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("set sysctl net/%s to %s: %w", key, value, err)
	}
	return nil
}

// Sysctls returns the keys that match a pattern as path.Match has it:
// "ipv4/conf/*/forwarding".
func Sysctls(pattern string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(sysctlRoot, pattern))
	if err != nil {
		return nil, fmt.Errorf("list sysctls net/%s: %w", pattern, err)
	}
	keys := make([]string, len(paths))
	for i, p := range paths {
		keys[i] = strings.TrimPrefix(p, sysctlRoot+"/")
	}
	return keys, nil
}

// IPv6Off says why a device has no IPv6 in the calling thread's network
// namespace; "" if it has.
func IPv6Off(device string) string {
	if _, err := Sysctl("ipv6/conf/all/disable_ipv6"); errors.Is(err, ErrNotFound) {
		return "this kernel has no IPv6"
	}
	key := "ipv6/conf/" + device + "/disable_ipv6"
	off, err := Sysctl(key)
	switch {
	case errors.Is(err, ErrNotFound):
		return "device " + device + " has none, as the kernel gives it to no device with an MTU below 1280"
	case err != nil:
		return err.Error()
	case off != "0":
		return "sysctl net/" + key + " is " + off
	}
	return ""
}
