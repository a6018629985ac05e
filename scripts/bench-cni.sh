#!/usr/bin/env bash
# How long ADD and DEL of weft's CNI plugin take beside Debian's bridge with
# host-local, both by cnitool, in one run, alternating; and where the time goes.
# Medians. ROUNDS (30) can be set.
set -euo pipefail
cd "$(dirname "$0")/.."
lab=weft-cni-bench weft=$PWD/bin/weft cnitool=$PWD/bin/cnitool
# shellcheck source=scripts/lab.sh
. scripts/lab.sh
rounds=${ROUNDS:-30}

lab_down
trap lab_down EXIT
trap 'exit 130' INT TERM
lab_up 1
mkdir -p "$state/bin" "$state/net.d"
ln -s /usr/lib/cni/{bridge,host-local} "$state/bin"
WEFT_ENCAP=vxlan in_host 1 "$weft" launch --cni --cni-bin-dir "$state/bin" --cni-conf-dir "$state/net.d" --cni-network weft >/dev/null 2>&1
cat >"$state/net.d/20-bridge.conflist" <<END
{"cniVersion": "1.0.0", "name": "reference", "plugins": [{"type": "bridge", "bridge": "reference", "isDefaultGateway": true,
  "ipam": {"type": "host-local", "dataDir": "$state/host-local", "ranges": [[{"subnet": "198.51.100.0/24"}]]}}]}
END
for network in weft reference; do
	ip netns add "$(container 1 "$network")"
done

# Inside of the host, with a /var/lib of its own for cnitool's records.
# shellcheck disable=SC2016
ip netns exec "$(host 1)" env CNI_PATH="$state/bin" NETCONFPATH="$state/net.d" bash -euc '
cnitool=$1 rounds=$2 namespace=$3 plugins=$4
mount -t tmpfs tmpfs /var/lib
timed() { # WHAT COMMAND… prints the milliseconds
	# Kernel and daemon go on after they have answered, which is not for the next to pay.
	sleep 0.2
	local what=$1 begun=$EPOCHREALTIME
	shift
	"$@" >/dev/null 2>&1 </dev/null
	local ended=$EPOCHREALTIME
	printf "%s %d.%03d\n" "$what" $(((${ended/./} - ${begun/./}) / 1000)) $(((${ended/./} - ${begun/./}) % 1000))
}
for _ in $(seq "$rounds"); do
	for network in weft reference; do
		timed "$network-add" "$cnitool" add "$network" "/run/netns/$namespace$network"
		timed "$network-del" "$cnitool" del "$network" "/run/netns/$namespace$network"
	done
	for plugin in weft-cni bridge host-local; do
		timed "$plugin-start" env CNI_COMMAND=VERSION "$plugins/$plugin"
	done
	timed true-start env true
	timed cnitool-start "$cnitool" --help || true
done' bash "$cnitool" "$rounds" "$lab-c1" "$state/bin" >"$state/times"

median() { awk -v what="$1" '$1 == what {print $2}' "$state/times" | sort -n | awk '{v[NR] = $1} END {printf "%.1f", v[int((NR + 1) / 2)]}'; }

printf '%-44s %8s %8s %8s\n' "by cnitool, ms, median of $rounds" ADD DEL sum
for network in weft reference; do
	name='weft'
	[ "$network" = weft ] || name="bridge and host-local"
	printf '%-44s %8s %8s %8s\n' "$name" "$(median "$network-add")" "$(median "$network-del")" \
		"$(awk -v a="$(median "$network-add")" -v b="$(median "$network-del")" 'BEGIN {printf "%.1f", a + b}')"
done
awk -v a="$(median weft-add)" -v b="$(median weft-del)" -v c="$(median reference-add)" -v d="$(median reference-del)" \
	'BEGIN {printf "%-44s %8.2f %8.2f %8.2f\n\n", "ratio", a / c, b / d, (a + b) / (c + d)}'
printf '%-44s %8s\n' "start of a program and nothing else, ms" ''
for program in weft-cni bridge host-local true cnitool; do
	printf '%-44s %8s\n' "$program" "$(median "$program-start")"
done
