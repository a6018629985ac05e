package encap

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// PortError says that another program has the UDP port of a tunnel device, which
// carries nothing then: it is down, or not there.
type PortError struct {
	Device string
	Port   uint16
	Err    error
}

func (e *PortError) Error() string {
	return fmt.Sprintf("UDP port %d, which the tunnels of this network use (%s), is taken by another program (ss -lnup shows which): %v", e.Port, e.Device, e.Err)
}

// Unwrap returns the cause.
func (e *PortError) Unwrap() error { return e.Err }

func portTaken(local Local, err error) error { return &PortError{local.Device, local.Port, err} }

// OnlyPortsTaken tells whether an error of Set comes from nothing but ports that other
// programs have: all devices that carry anything are as they were to be.
func OnlyPortsTaken(err error) bool {
	switch e := err.(type) {
	case *PortError:
		return true
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !OnlyPortsTaken(err) {
				return false
			}
		}
		return true
	case interface{ Unwrap() error }:
		return OnlyPortsTaken(e.Unwrap())
	}
	return false
}

// checkPort finds out whether the port of an end is free, of both families.
func checkPort(local Local) error {
	for _, network := range []string{"udp4", "udp6"} {
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: int(local.Port)})
		if errors.Is(err, unix.EADDRINUSE) {
			return portTaken(local, err)
		}
		if err == nil { // else the host does not have the family
			c.Close()
		}
	}
	return nil
}
