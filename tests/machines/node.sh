#!/bin/busybox sh
# The first process of a node; nfs.sh starts it in namespaces of its own.
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sys /sys
for own in /run /tmp /var/lib /var/log; do mount -t tmpfs tmpfs "$own"; done
mount --make-shared /run # as on a host
mkdir -p /run/netns /var/lib/cni /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
chown -R statd /var/lib/nfs/sm /var/lib/nfs/sm.bak
hostname "$1"
cat /proc/sys/kernel/random/uuid >/run/boot_id
tr -d - </proc/sys/kernel/random/uuid >/run/machine-id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
mount --bind /run/machine-id /etc/machine-id
ip link set lo up
touch /run/ready
while :; do sleep 1000; done
