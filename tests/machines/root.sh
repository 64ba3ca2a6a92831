#!/bin/bash
# The first process of a machine with a whole Debian root, after init.sh: set it up as a host is, run /run/scenario, power off.
# For scenarios: step, as in init.sh, but for as long as the machine has.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmp /tmp
mount --make-rshared / # as systemd does
(sleep "$BOUND_S" && echo "@bound" && /bin/busybox poweroff -f) &
ip link set lo up

step() {
    name=$1 begin=$(cut -d ' ' -f 1 /proc/uptime)
    shift
    "$@" </dev/null >/tmp/out 2>/tmp/err
    code=$?
    echo "@step:$name:$code:$begin:$(cut -d ' ' -f 1 /proc/uptime):$(base64 -w 0 /tmp/out):$(base64 -w 0 /tmp/err)"
}

# shellcheck source=/dev/null
. /run/scenario
echo "@end"
/bin/busybox poweroff -f
