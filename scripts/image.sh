#!/usr/bin/env bash
# Builds the container image, without a container engine:
#
#     scripts/image.sh BINARY TAG OUT.tar
#
# OUT.tar is for `docker load`, `podman load` and `ctr images import`. The image is
# made from nothing: weft, and the programs by which it sets the firewall (nft and
# iptables of this machine, which speak to whatever the host's kernel has) with the
# libraries that they need. It is the same for the same files.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

if [ $# -ne 3 ]; then
	echo "usage: scripts/image.sh BINARY TAG OUT.tar" >&2
	exit 2
fi
binary=$1 tag=$2 out=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# add copies a file to where it is here, with the libraries that it is linked to.
add() {
	local file=$1 lib
	for lib in "$file" $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
		[ -e "$root$lib" ] || install -D "$lib" "$root$lib"
	done
}

mkdir -p "$root"/{run,etc,tmp,proc,sys,dev,var/lib/weft,usr/sbin,usr/bin}
ln -s ../run "$root/var/run" # runtimes say /var/run/netns
install "$binary" "$root/usr/bin/weft"
for program in nft xtables-nft-multi xtables-legacy-multi; do
	path=$(readlink -f "$(command -v "$program")")
	add "$path"
	[ "$path" = "/usr/sbin/$program" ] || ln -s "$path" "$root/usr/sbin/$program"
done
for kind in nft legacy; do
	ln -s "xtables-$kind-multi" "$root/usr/sbin/iptables-$kind"
done
# What iptables needs for the rules that it lists and writes.
modules=$(dirname "$(find /usr/lib /lib /usr/lib64 /usr/libexec -name libxt_conntrack.so 2>/dev/null | head -n 1)")
for module in "$modules"/*.so; do
	add "$module"
done
# The loader finds libraries where this machine has them.
for loader in $(ldd "$(command -v nft)" | grep -o '/lib[^ ]*ld-linux[^ ]*' || true); do
	[ -e "$root$loader" ] || install -D "$loader" "$root$loader"
done

tarball() { tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu "$@"; }
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

tarball --file "$work/layer.tar" --directory "$root" .
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) arch=$(uname -m) ;;
esac
cat >"$work/config.json" <<JSON
{"architecture":"$arch","os":"linux","config":{"Entrypoint":["/usr/bin/weft"],"Env":["PATH=/usr/bin:/usr/sbin"]},"rootfs":{"type":"layers","diff_ids":["sha256:$(digest "$work/layer.tar")"]}}
JSON
config=$(digest "$work/config.json").json
mv "$work/config.json" "$work/$config"
cat >"$work/manifest.json" <<JSON
[{"Config":"$config","RepoTags":["$tag"],"Layers":["layer.tar"]}]
JSON
tarball --file "$work/image.tar" --directory "$work" manifest.json "$config" layer.tar
mkdir -p "$(dirname "$out")"
mv "$work/image.tar" "$out"
