#!/usr/bin/env bash
# How fast containers are across hosts, beside plain routing between the same
# hosts without any tunnel; and how soon the first ping passes. All in one run,
# alternating, medians. ROUNDS (5) and SECONDS_EACH (3) can be set.
set -euo pipefail
cd "$(dirname "$0")/.."
lab=weft-bench weft=$PWD/bin/weft
# shellcheck source=scripts/lab.sh
. scripts/lab.sh
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3}

lab_down
trap lab_down EXIT
trap 'exit 130' INT TERM

mesh_up() { # ENCAP A B: hosts A and B with a container each; prints how soon the first ping passes
	local line join started launched first from=$2 to=$3
	line=$(in_host "$from" "$weft" launch --encap "$1" 2>/dev/null)
	read -ra join <<<"${line#weft }"
	ip netns add "$(container "$from" a)"
	ip netns add "$(container "$to" a)"
	server=$(in_host "$from" "$weft" attach "$(container "$from" a)")
	started=$(date +%s%N)
	in_host "$to" "$weft" "${join[@]}" >/dev/null 2>&1
	launched=$(date +%s%N)
	in_host "$to" "$weft" attach "$(container "$to" a)" >/dev/null
	until ip netns exec "$(container "$to" a)" ping -c 1 -W 0.2 "$server" >/dev/null; do :; done
	first=$(date +%s%N)
	printf '%-10s first ping from the second host: %d ms after its launch began, %d ms after it returned\n' \
		"$1" $(((first - started) / 1000000)) $(((first - launched) / 1000000))
}

for _ in 1 2 3; do
	lab_down
	lab_up 1 2 3 4
	mesh_up vxlan 1 2
	vxlan=$server
	mesh_up wireguard 3 4
	wireguard=$server
done
userspace=
if in_host 3 "$weft" status | grep -q '(userspace)'; then userspace=' in userspace'; fi

# The hosts of the first mesh, a container on a bridge each, and plain routes:
# what differs is the tunnel alone.
for n in 1 2; do
	plain=$(container $n plain)
	ip netns add "$plain"
	ip -n "$(host $n)" link add plain type bridge
	ip -n "$(host $n)" address add "198.51.100.$((n * 4 + 1))/30" dev plain
	ip -n "$(host $n)" link set plain up
	ip -n "$(host $n)" route add "198.51.100.$(((3 - n) * 4))/30" via "192.0.2.$((3 - n))"
	ip link add port netns "$(host $n)" type veth peer name eth0 netns "$plain"
	ip -n "$(host $n)" link set port master plain up
	ip -n "$plain" address add "198.51.100.$((n * 4 + 2))/30" dev eth0
	ip -n "$plain" link set eth0 up
	ip -n "$plain" route add default via "198.51.100.$((n * 4 + 1))"
done

for server in "$(container 1 a)" "$(container 3 a)" "$(container 1 plain)" "$(host 1)"; do
	ip netns exec "$server" iperf3 -s -D
done
sleep 0.5

measure() { # NAMESPACE ADDRESS → Mbit/s of one TCP stream
	ip netns exec "$1" iperf3 -c "$2" -t "$seconds" -f m | awk '/receiver/ {print int($7)}'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

declare -A results
for _ in $(seq "$rounds"); do
	results[host]+="$(measure "$(host 2)" 192.0.2.1) "
	results[routed]+="$(measure "$(container 2 plain)" 198.51.100.6) "
	results[vxlan]+="$(measure "$(container 2 a)" "$vxlan") "
	results[wireguard]+="$(measure "$(container 4 a)" "$wireguard") "
done
routed=$(tr ' ' '\n' <<<"${results[routed]% }" | median)
printf '\n%-38s %10s %8s   %s\n' "one TCP stream, median of $rounds" Mbit/s ratio "all rounds"
for what in "host:host to host, underlay" "routed:container to container, routed" "vxlan:the same, weft VXLAN" "wireguard:the same, weft WireGuard$userspace"; do
	key=${what%%:*}
	m=$(tr ' ' '\n' <<<"${results[$key]% }" | median)
	printf '%-38s %10d %8s   %s\n' "${what#*:}" "$m" "$(awk -v a="$m" -v b="$routed" 'BEGIN {printf "%.2f", a / b}')" "${results[$key]}"
done
