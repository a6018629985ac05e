#!/usr/bin/env bash
# Installs the Debian packages that the demo and the tests need, and says
# which; with the argument kernel-wg those of kernel-wg.sh as well, with bench the
# tools that the bench measures beside weft. Where everything is there already it
# does nothing.
set -euo pipefail

# program:package
engines=( # the tests of the CNI plugin and of the DaemonSet run these
	containerd:containerd runc:runc podman:podman /usr/lib/cni/bridge:containernetworking-plugins
)
needs=(
	ip:iproute2 nft:nftables iptables:iptables ping:iputils-ping nsenter:util-linux
	arping:iputils-arping tcpdump:tcpdump ps:procps curl:curl busybox:busybox-static iperf3:iperf3 shellcheck:shellcheck gcc:gcc git:git strace:strace ethtool:ethtool
	tc:iproute2 python3:python3 dockerd:docker.io "${engines[@]}"
)
if [ "${1:-}" = kernel-wg ]; then
	needs+=(
		qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod wg:wireguard-tools # and of what the guest is made:
		bash:bash dash:dash cat:coreutils find:findutils grep:grep sed:sed mawk:mawk mount:mount hostname:hostname perl:perl-base ldd:libc-bin
	)
fi
if [ "${1:-}" = bench ]; then
	needs+=(nebula:nebula tincd:tinc wireguard-go:wireguard-go wg:wireguard-tools)
fi

missing=()
for need in "${needs[@]}"; do
	PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
! ldd "$(command -v busybox)" >/dev/null 2>&1 || missing+=(busybox-static) # a static one, for containers without an image
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev) # for the race detector

if ! command -v "${GO:-go}" >/dev/null; then
	echo "Go is not installed: go.mod names the version, see https://go.dev/dl/" >&2
	exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "these packages are missing, and installing them takes root: ${missing[*]}" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "install these first (no apt-get here): ${missing[*]}" >&2
	exit 1
fi
echo "installing Debian packages: ${missing[*]}"
# Container engines are installed and not started: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# A package of its own in later releases of Debian.
[ -e /usr/bin/docker ] || apt-get install -y -qq --no-install-recommends docker-cli >/dev/null
