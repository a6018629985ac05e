#!/bin/bash
# The first process of the guest of kernel-wg.sh: makes a system of the kernel,
# runs the command, writes its exit code to the second serial port, powers off.
export PATH=/test/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
stty -F /dev/ttyS1 raw
stty -opost </dev/console
ip link set lo up
# What distributions load at boot. WireGuard is left for the tests to find.
modprobe -a tun br_netfilter
# A guest without acceleration is slow: what a test waits for may take this many
# times as long as elsewhere.
export WEFT_TEST_SLOWNESS=4 WEFT_BINARY=/test/bin/weft

cd /test || exit 1
code=0
bash command || code=$?
echo $code >/dev/ttyS1
echo o >/proc/sysrq-trigger
sleep 60
