package bench

import (
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// wireguard is userspace WireGuard as its library has it, of the version that
// weft is built with, until it is ended. It is set up with wg(8).
func wireguard(name string) error {
	link, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return err
	}
	dev := device.NewDevice(link, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer dev.Close()
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		return err
	}
	control, err := ipc.UAPIListen(name, file)
	if err != nil {
		return err
	}
	for {
		c, err := control.Accept()
		if err != nil {
			return err
		}
		go dev.IpcHandle(c)
	}
}
