package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// write puts a file where all hosts see it.
func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// tunnel is the way between two hosts, without any container, once it carries
// packets.
func tunnel(t testing.TB, name string, a, b *netlab.Host, addr string) []way {
	netlab.Eventually(t, name+" carries packets", func() bool { return netlab.Pings(a, addr) })
	return []way{{name, a, b, addr}}
}

// wireguardBy sets up a program that is WireGuard in userspace.
func wireguardBy(t testing.TB, lab *netlab.Lab, name, short string, program ...string) []way {
	const device = "wg0"
	hosts := []*netlab.Host{lab.Host(short + "1"), lab.Host(short + "2")}
	keys := make([]string, len(hosts))
	for i, h := range hosts {
		h.Start(append(program, device)...)
		netlab.Eventually(t, name+" runs", func() bool { return h.Try("wg", "show", device).Code == 0 })
		keys[i] = h.Run("bash", "-c", "umask 077; wg genkey | tee /run/key | wg pubkey")
	}
	for i, h := range hosts {
		h.Run("wg", "set", device, "listen-port", "51820", "private-key", "/run/key",
			"peer", keys[1-i], "endpoint", hosts[1-i].Addr.String()+":51820", "allowed-ips", fmt.Sprintf("203.0.113.%d,%s", 2-i, containersOf(1-i)))
		h.Run("ip", "address", "add", fmt.Sprintf("203.0.113.%d/24", i+1), "dev", device)
		h.Run("ip", "link", "set", device, "up")
	}
	return tunnel(t, name, hosts[0], hosts[1], "203.0.113.2")
}

func wireguardHere(t testing.TB, lab *netlab.Lab) []way {
	ways := wireguardBy(t, lab, hostToHost, "l", append(self(t), "wireguard")...)
	hosts := []*netlab.Host{ways[0].client.(*netlab.Host), ways[0].server.(*netlab.Host)}
	return append(ways, bridged(plainWG, hosts, 1420, func(int) []string { return []string{"dev", "wg0"} })...)
}

func wireguardGo(t testing.TB, lab *netlab.Lab) []way {
	return wireguardBy(t, lab, "wireguard-go of Debian, host to host", "g", "wireguard-go", "-f")
}

func nebula(t testing.TB, lab *netlab.Lab) []way {
	dir := t.TempDir()
	hosts := []*netlab.Host{lab.Host("n1"), lab.Host("n2")}
	ca := []string{"-ca-crt", dir + "/ca.crt", "-ca-key", dir + "/ca.key"}
	hosts[0].Run("nebula-cert", "ca", "-name", "bench", "-out-crt", dir+"/ca.crt", "-out-key", dir+"/ca.key")
	for i, h := range hosts {
		own, other := fmt.Sprintf("203.0.113.%d", i+1), fmt.Sprintf("203.0.113.%d", 2-i)
		key := filepath.Join(dir, h.Name)
		h.Run(append([]string{"nebula-cert", "sign", "-name", h.Name, "-ip", own + "/24", "-out-crt", key + ".crt", "-out-key", key + ".key"}, ca...)...)
		write(t, key+".yml", fmt.Sprintf(`
pki: {ca: %[1]s/ca.crt, cert: %[2]s.crt, key: %[2]s.key}
static_host_map: {%[3]s: ["%[4]s:4242"]}
lighthouse: {am_lighthouse: false}
listen: {host: 0.0.0.0, port: 4242}
tun: {dev: nebula}
firewall: {outbound: [{port: any, proto: any, host: any}], inbound: [{port: any, proto: any, host: any}]}
`, dir, key, other, hosts[1-i].Addr), 0o600)
		h.Start("nebula", "-config", key+".yml")
	}
	return tunnel(t, "nebula of Debian, host to host", hosts[0], hosts[1], "203.0.113.2")
}

func tinc(t testing.TB, lab *netlab.Lab) []way {
	dir := t.TempDir()
	hosts := []*netlab.Host{lab.Host("t1"), lab.Host("t2")}
	for i, h := range hosts {
		own := filepath.Join(dir, h.Name)
		write(t, own+"/tinc.conf", fmt.Sprintf("Name = %s\nConnectTo = %s\n", h.Name, hosts[1-i].Name), 0o600)
		write(t, own+"/hosts/"+h.Name, fmt.Sprintf("Address = %s\nSubnet = 203.0.113.%d/32\n", h.Addr, i+1), 0o600)
		write(t, own+"/tinc-up", fmt.Sprintf("#!/bin/sh\nip address add 203.0.113.%d/24 dev $INTERFACE\nip link set $INTERFACE up\n", i+1), 0o700)
		h.Run("bash", "-c", "tincd -c "+own+" -K2048 </dev/null")
	}
	for i, h := range hosts {
		own, other := filepath.Join(dir, h.Name), hosts[1-i].Name
		h.Run("cp", filepath.Join(dir, other, "hosts", other), own+"/hosts/")
		h.Start("tincd", "-c", own, "-D", "--pidfile=/run/tinc.pid")
	}
	return tunnel(t, "tinc of Debian, host to host", hosts[0], hosts[1], "203.0.113.2")
}
