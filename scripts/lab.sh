# shellcheck shell=bash
# Hosts in network namespaces for demo.sh, which sources this after it has set:
#   lab   prefix of all namespaces' names; also names the state directory
#   weft  path of the binary
# Host N is the namespace $lab-N with 192.0.2.N on an underlay of its own.

state=/run/${lab:?}

if [ "$(id -u)" -ne 0 ]; then
	echo "this makes network namespaces, which takes root: sudo make …" >&2
	exit 1
fi

host() { echo "$lab-$1"; }
container() { echo "$lab-c$1$2"; }

# in_host N COMMAND… runs on a host, with its own state and socket of weft. The
# bridge's name is its own, too: the hosts share /run, where the process of
# userspace WireGuard has a socket by the name of its device.
in_host() {
	local n=$1
	shift
	ip netns exec "$(host "$n")" env WEFT_STATE_DIR="$state/$n" WEFT_SOCKET="$state/$n.sock" WEFT_NAME="host$n" WEFT_BRIDGE="weft$n" "$@"
}

# lab_up N… makes these hosts.
lab_up() {
	local n
	mkdir -p "$state"
	ip netns add "$lab-underlay"
	ip -n "$lab-underlay" link add underlay type bridge
	ip -n "$lab-underlay" link set underlay up
	for n in "$@"; do
		ip netns add "$(host "$n")"
		ip link add "port$n" netns "$lab-underlay" type veth peer name eth0 netns "$(host "$n")"
		ip -n "$lab-underlay" link set "port$n" master underlay up
		ip -n "$(host "$n")" link set lo up
		ip -n "$(host "$n")" address add "192.0.2.$n/24" dev eth0
		ip -n "$(host "$n")" link set eth0 up
	done
}

# lab_down removes every trace of the lab, whatever state it is in.
lab_down() {
	local socket n pid
	for socket in "$state"/*.sock; do
		if [ -S "$socket" ]; then "${weft:?}" stop --all --socket "$socket" >/dev/null 2>&1 || true; fi
	done
	ip netns list | awk '{print $1}' | { grep "^$lab-" || true; } | while read -r n; do
		for pid in $(ip netns pids "$n"); do kill "$pid" 2>/dev/null || true; done
		ip netns delete "$n"
	done
	rm -rf "$state"
}
