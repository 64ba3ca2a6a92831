#!/bin/busybox sh
# Pods of a node, cni-reaper and host-local called one after the other as libcni does: pods VERB NAME, each below.
# Of a pod's namespace nothing is left but its name in /run/netns.
call() { # VERB PLUGIN NAME
    env CNI_COMMAND="$1" CNI_CONTAINERID="$(printf %s "$3" | sha256sum | cut -c 1-64)" CNI_NETNS="/run/netns/$3" \
        CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin "/opt/cni/bin/$2" <"/nfs/$2.json"
}
start() {
    touch "/run/netns/$1"
    unshare -n mount --bind /proc/self/ns/net "/run/netns/$1"
    call ADD cni-reaper "$1" >/dev/null || echo "cni-reaper failed"
    call ADD host-local "$1"
}
lose() { # without a DEL
    umount "/run/netns/$1"
    rm "/run/netns/$1"
}
stop() {
    call DEL host-local "$1" || echo "host-local failed"
    call DEL cni-reaper "$1" || echo "cni-reaper failed"
    lose "$1"
}
list() { # on the server: what the network's directory holds, with the first line of each
    cd /srv/net || exit
    for address in 10.*; do
        [ -e "$address" ] && echo "$address $(head -n 1 "$address" | tr -d '\r')"
    done
    true
}
"$@"
