#!/bin/busybox sh
# Init of the machine: set the node up, run /scenario, power off. For scenarios: step, pod, end_pod.
# Each step is one line on the console: @step:NAME:EXIT CODE:BEGIN:END:STDOUT:STDERR, the last two in base64.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin CNI_PATH=/opt/cni/bin NETCONFPATH=/etc/cni/net.d HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/netns /var/lib /var/log /etc/cni/net.d
(sleep "$BOUND_S" && echo "@bound" && poweroff -f) & # a machine whose test is gone ends as well
while read -r module; do
    insmod "/modules/$module" || echo "init: cannot load $module"
done </modules/order
ip link set lo up

uptime_now() { cut -d ' ' -f 1 /proc/uptime; }

# step NAME COMMAND...: run a program, for five minutes at most, and report how it ended.
step() {
    name=$1 begin=$(uptime_now)
    shift
    timeout 300 "$@" >/tmp/out 2>/tmp/err
    code=$?
    echo "@step:$name:$code:$begin:$(uptime_now):$(base64 -w 0 /tmp/out):$(base64 -w 0 /tmp/err)"
}

# pod NAME: make a network namespace at /run/netns/NAME, as `ip netns add` does.
pod() {
    touch "/run/netns/$1"
    unshare -n mount --bind /proc/self/ns/net "/run/netns/$1"
}

# end_pod NAME: remove it, as `ip netns delete` does; without a CNI DEL its address leaks.
end_pod() {
    umount "/run/netns/$1"
    rm "/run/netns/$1"
}

# shellcheck source=/dev/null
. /scenario </dev/null
echo "@end"
poweroff -f
