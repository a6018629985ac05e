#!/usr/bin/env bash
# Three hosts, six containers, one network: all of it in network namespaces on
# this machine, joined by an underlay of their own, and removed at the end.
# KEEP=1 leaves it up and says how to play with it; KEEP=0 only cleans up.
set -euo pipefail
cd "$(dirname "$0")/.."

lab=weft-demo weft=$PWD/bin/weft
# shellcheck source=scripts/lab.sh
. scripts/lab.sh
readonly hosts=(1 2 3) letters=(a b)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

lab_down # what an earlier demo left
if [ "${KEEP:-}" = 0 ]; then exit 0; fi
if [ "${KEEP:-}" != 1 ]; then trap lab_down EXIT; fi
trap 'exit 130' INT TERM
mkdir -p "$state/www"

title "three hosts on one underlay (network namespaces)"
lab_up "${hosts[@]}"
for n in "${hosts[@]}"; do echo "host$n  192.0.2.$n"; done

title "host1\$ weft launch"
line=$(in_host 1 "$weft" launch)
echo "${line%%weft1-*}weft1-…"
read -ra join <<<"${line#weft }"
for n in 2 3; do
	title "host$n\$ weft launch --join 192.0.2.1 --token weft1-…"
	in_host "$n" "$weft" "${join[@]}" >/dev/null
done

title "two containers on each host: weft attach"
declare -A address
for n in "${hosts[@]}"; do
	for c in "${letters[@]}"; do
		ip netns add "$(container "$n" "$c")"
		address[$n$c]=$(in_host "$n" "$weft" attach "$(container "$n" "$c")")
		echo "host$n  $(container "$n" "$c")  ${address[$n$c]}"
	done
	address[$n]=$(in_host "$n" "$weft" status -o json | sed -n '/"bridge": {/,/}/s/.*"gateway": "\([0-9.]*\).*/\1/p')
done

title "the peers, as host2 sees them: weft status peers"
in_host 2 "$weft" status peers
title "the split of the range: weft status ipam"
in_host 2 "$weft" status ipam

title "who reaches whom (ping; round trip in ms)"
ends=(1 1a 1b 2 2a 2b 3 3a 3b)
name() { if [ "${#1}" = 1 ]; then echo "host$1"; else echo "c$1"; fi; }
netns_of() { if [ "${#1}" = 1 ]; then host "$1"; else container "${1:0:1}" "${1:1}"; fi; }
printf '%-7s' from
for to in "${ends[@]}"; do printf '%8s' "$(name "$to")"; done
echo
failed=0
for from in "${ends[@]}"; do
	printf '%-7s' "$(name "$from")"
	for to in "${ends[@]}"; do
		if [ "$from" = "$to" ]; then printf '%8s' -; continue; fi
		if ms=$(ip netns exec "$(netns_of "$from")" ping -c 1 -W 1 "${address[$to]}" | sed -n 's/.*time=\([0-9.]*\).*/\1/p') && [ -n "$ms" ]; then
			printf '%8s' "$ms"
		else
			printf '%8s' LOST
			failed=1
		fi
	done
	echo
done

encap=$(in_host 1 "$weft" status | sed -n 's/^mesh .*, traffic //p')
title "an HTTP download from c1a to c3b, beside the same over the raw underlay"
readonly mib=1024
truncate -s ${mib}M "$state/www/zeros" # in memory, without taking any
serve() { ip netns exec "$1" busybox httpd -f -h "$state/www" -p "$2:8080" & }
speed() { # MB/s, the best of three
	local best=0 now
	for _ in 1 2 3; do
		now=$(ip netns exec "$1" curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null -w '%{speed_download}' "http://$2:8080/zeros")
		now=${now%.*}
		if [ "$now" -gt "$best" ]; then best=$now; fi
	done
	echo $((best / 1000000))
}
serve "$(container 1 a)" "${address[1a]}"
serve "$(host 1)" 192.0.2.1
sleep 0.2
raw=$(speed "$(host 3)" 192.0.2.1)
over=$(speed "$(container 3 b)" "${address[1a]}")
echo "raw underlay        $raw MB/s   (host3 from host1, $mib MiB)"
echo "container network   $over MB/s   (c3b from c1a, $encap)"
echo "ratio               $((100 * over / raw)) %"

title "how it all is: weft status"
in_host 1 "$weft" status || failed=1

if [ "${KEEP:-}" = 1 ]; then
	cat <<-TEXT

	It is still up. To play with it:
	  alias h1='ip netns exec weft-demo-1 env WEFT_STATE_DIR=$state/1 WEFT_SOCKET=$state/1.sock WEFT_BRIDGE=weft1 $weft'
	  h1 status; h1 ps -o wide; h1 expose
	  ip netns exec weft-demo-c1a ping ${address[3b]}
	  ip netns add weft-demo-c1c; h1 attach weft-demo-c1c
	  ip netns exec weft-demo-1 bash        # a shell on host1: ip route, nft list ruleset
	To remove every trace: make demo KEEP=0
	TEXT
else
	title "removing every trace: weft reset on each host"
	for n in 3 2 1; do in_host "$n" "$weft" reset --yes 2>&1 | sed "s/^/host$n: /"; done
fi
exit $failed
