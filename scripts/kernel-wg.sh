#!/usr/bin/env bash
# Runs a command on a kernel that has WireGuard: Debian's cloud kernel under QEMU,
# without acceleration, so that it runs on any machine. The guest is this
# machine's programs, weft, and the test binaries, all in memory; nothing of it
# reaches a disk or a network. The arguments are the command, which are the tests
# of WireGuard where there are none, and a few of them for --quick; the exit code is its.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=.cache/kernel-wg

# The driver's tests as everywhere, and of the end-to-end tests those that are
# about WireGuard, or about kernels that have it.
end_to_end='Kernel|TrafficBetweenHostsIsCiphertext|HostThatMoves|KeysAreChangedTwice'
tests="encap.test -test.v -test.timeout 15m -test.skip /vxlan || code=1
e2e.test -test.v -test.parallel 1 -test.timeout 40m -test.run '$end_to_end' || code=1
exit \${code:-0}"
if [ "${1:-}" = --quick ]; then
	shift
	tests="[ \$(encap.test -test.list 'KernelCarries|IsSetRepairedAndRemoved' | wc -l) = 2 ] && [ \$(e2e.test -test.list KernelCarries | wc -l) = 1 ] || code=1
encap.test -test.v -test.timeout 5m -test.run 'KernelCarries|IsSetRepairedAndRemoved' -test.skip /vxlan || code=1
e2e.test -test.v -test.timeout 10m -test.run KernelCarries || code=1
exit \${code:-0}"
fi

# What the guest is made of: the programs of these packages, and their libraries.
packages=(
	bash coreutils dash findutils grep hostname iperf3 iproute2 iptables iputils-arping iputils-ping
	kmod libc-bin mawk mount nftables perl-base procps sed tcpdump util-linux wireguard-tools
)
# Parts of the kernel's modules, of which the guest loads what it needs.
modules=(arch/x86/crypto crypto drivers/net lib net)

for program in qemu-system-x86_64 cpio dpkg-deb apt-get go; do
	if ! command -v "$program" >/dev/null; then
		echo "$program is missing: scripts/deps.sh kernel-wg installs what this needs" >&2
		exit 1
	fi
done
if [ "$(uname -m)" != x86_64 ]; then
	echo "the kernel under test is one for x86_64, and this machine is $(uname -m)" >&2
	exit 1
fi

# The kernel's package comes by way of apt's configuration, and is kept.
mkdir -p "$cache"
find_kernel() { find "$cache" -name 'linux-image-*.deb' | sort -V | tail -n 1; }
if [ -z "$(find_kernel)" ]; then
	depends() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ {print $2; exit}'; }
	[ -n "$(depends)" ] || apt-get update -qq
	if [ -z "$(depends)" ]; then
		echo "apt knows no package linux-image-cloud-amd64: add a Debian mirror to its sources" >&2
		exit 1
	fi
	echo "downloading the Debian package $(depends)"
	(cd "$cache" && apt-get download -qq -o APT::Sandbox::User=root "$(depends)")
fi

work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

dpkg-deb -x "$(find_kernel)" "$work/kernel"
version=$(basename "$work"/kernel/lib/modules/*)

root=$work/root
mkdir -p "$root"/{dev,etc,proc,run,sys,tmp,root,test/bin,usr,var/lib}
for dir in bin sbin lib lib64; do
	mkdir -p "$root/usr/$dir"
	if [ -L "/$dir" ]; then ln -s "usr/$dir" "$root/$dir"; fi # one tree of programs, as it is here
done

# Programs with what belongs to them, then the libraries that they load.
copy() { tar -C / --no-recursion -cf - -T - | tar -C "$root" --keep-directory-symlink -xf -; }
dpkg -L "${packages[@]}" | grep -E '^/(usr/)?(s?bin|lib)/' | grep -v /systemd/ | while read -r path; do
	if [ ! -d "$path" ]; then echo "${path#/}"; fi
done | sort -u | copy
(cd / && find etc/{alternatives,passwd,group,nsswitch.conf,protocols,services} && find usr/{bin,sbin} -lname '/etc/alternatives/*') | copy
{ find "$root" -type f \( -perm -100 -o -name '*.so*' \) -exec ldd {} + 2>/dev/null || true; } | # some are scripts
	awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// && $2 ~ /^\(0x/ {print $1}' | sort -u | while read -r library; do
	echo "${library#/}"
	readlink -f "$library" | sed 's,^/,,'
done | sort -u | copy

for part in "${modules[@]}"; do
	mkdir -p "$root/lib/modules/$version/kernel/$part"
	cp -r "$work/kernel/lib/modules/$version/kernel/$part/." "$root/lib/modules/$version/kernel/$part"
done
cp "$work/kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version"
/sbin/depmod -b "$root" "$version"

CGO_ENABLED=0 go build -trimpath -o "$root/test/bin/weft" .
for package in encap internal/e2e internal/bench; do
	CGO_ENABLED=0 go test -c -tags kernelwg -o "$root/test/bin/${package##*/}.test" "./$package"
done
cp -r scripts "$root/test/scripts"
cp scripts/kernel-wg-init.sh "$root/init"
printf '%s\n' "${*:-$tests}" >"$root/test/command"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initramfs"
rm -r "$root"

# The second serial port takes the exit code; a kernel that panics leaves none.
timeout 60m qemu-system-x86_64 -M q35 -cpu max -accel tcg,thread=multi -smp "$(nproc)" -m 3G \
	-nodefaults -no-reboot -display none -serial stdio -serial "file:$work/code" \
	-kernel "$work/kernel/boot/vmlinuz-$version" -initrd "$work/initramfs" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check" </dev/null &
qemu=$!
wait "$qemu" || true
qemu=
code=$(tr -dc 0-9 <"$work/code")
if [ -z "$code" ]; then
	echo "the guest ended without saying how the tests went" >&2
	exit 1
fi
exit "$code"
