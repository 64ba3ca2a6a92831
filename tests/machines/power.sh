#!/bin/busybox sh
# A node on a disk, whose power may go at any moment: VERB ARGUMENTS, each below. cnitool is an old libcni's, the list flannel's.
# The list that the runtime reads is /etc/cni/net.d/; /power/without has it without cni-reaper. What happens to a pod is told in a
# line on the console, or to the step: @given NAME ADDRESS, @ending NAME, @refused NAME: WHY.
disk=/disk
call() { # LIST VERB NAME
    env NETCONFPATH="$1" /power/cnitool "$2" cbr0 "/run/netns/$3"
}
with=/etc/cni/net.d
attach() { # FILE SYSTEM [CLOCK]: mount the disk, and what a node has on it
    [ -z "$2" ] || date -s "$2" >/dev/null
    mkdir -p /plugins $disk && mv /opt/cni/bin/* /power/flannel /plugins/
    mount -t "$1" /dev/vda $disk || exit
    for directory in etc/cni/net.d opt/cni/bin var/lib/cni; do
        mkdir -p "$disk/$directory" "/$directory"
        mount --bind "$disk/$directory" "/$directory"
    done
    for plugin in /plugins/*; do # the disk has links to them: what a test has to write is cni-reaper alone
        [ -L "/opt/cni/bin/${plugin##*/}" ] || ln -s "$plugin" /opt/cni/bin/
    done
}
files() { # all of the disk but the executable, as a tar archive
    tar -c -z -C $disk etc var
}
executable() { # its size, and whether it is the one of this machine
    [ ! -e /opt/cni/bin/cni-reaper ] || { wc -c </opt/cni/bin/cni-reaper && cmp /root/cni-reaper /opt/cni/bin/cni-reaper && echo whole; }
    ls -A /opt/cni/bin
}
refused() { # LIST FILE: which pods of the last life cannot be ended, and why
    while read -r name; do
        rm -f "/run/netns/$name" # where /run is on the disk the mount point is there, as a file: containerd removes it, too
        call "$1" del "$name" >/tmp/said 2>&1 || echo "$name: $(tail -n 1 /tmp/said)"
    done <"$2"
}
start() {
    touch "/run/netns/$1"
    unshare -n mount --bind /proc/self/ns/net "/run/netns/$1"
    if call $with add "$1" >/tmp/said 2>&1; then
        echo "@given $1 $(sed -n 's/.*"address": "\([0-9.]*\).*/\1/p' /tmp/said | head -n 1)"
    else
        echo "@refused $1: $(tail -n 1 /tmp/said)"
        stop "$1" # a runtime does so
        return 1
    fi
}
stop() {
    echo "@ending $1"
    call $with del "$1" >/tmp/said 2>&1 || echo "@kept $1: $(tail -n 1 /tmp/said)"
    umount "/run/netns/$1"
    rm "/run/netns/$1"
}
gc() { # the runtime's list is in a file: cnitool has none
    CNI_COMMAND=GC /opt/cni/bin/cni-reaper </power/gc
}
begin() { # PREFIX COUNT: so many pods start
    for number in $(seq 1 "$2"); do
        start "$1$number"
    done
}
finish() { # PREFIX COUNT: those of them that have started end
    for number in $(seq 1 "$2"); do
        [ ! -e "/run/netns/$1$number" ] || stop "$1$number"
    done
}
ten() { # PREFIX: ten pods that live together, and end
    begin "$1" 10
    finish "$1" 10
}
forgotten() { # FILE: the runtime ends these pods, and gives no namespace, as CRI-O does for those of its last boot; which it cannot, and why
    while read -r name; do
        id=cnitool-$(printf '/run/netns/%s' "$name" | sha512sum | cut -c 1-20)
        for plugin in flannel cni-reaper; do # the list backwards; flannel calls bridge, and that host-local
            CNI_COMMAND=DEL CNI_CONTAINERID=$id CNI_NETNS='' CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin "/opt/cni/bin/$plugin" \
                </power/$plugin.json >/tmp/said 2>&1 || echo "$name: $(tail -n 1 /tmp/said)"
        done
        rm -f "/var/lib/cni/results/cbr0-$id-eth0"
    done <"$1"
}
keep_run() { # /run is on the disk: what is in it is there after the next boot
    mkdir -p $disk/run
    mount --bind $disk/run /run
    mkdir -p /run/netns
}
steps() { # the wall clock goes back and forth for ever, as by NTP and by hand, and comes far
    while true; do
        for by in 3600 -7200 34560000 -34560000 1 -1 86400 -82800; do
            date -s "@$(($(date +%s) + by))" >/dev/null
            usleep 150000
        done
    done
}
broken() { # how many of the files that a DEL needs are empty, or NUL bytes
    for file in /var/lib/cni/results/* /var/lib/cni/flannel/*; do
        [ ! -f "$file" ] || [ "$(head -c 1 "$file" | tr -d '\000')" ] || echo "$file"
    done | wc -l
}
settle() { # PREFIX: a pod starts and ends every five seconds until no file is broken, but not for ever
    rounds=0
    while [ "$(broken)" != 0 ] && [ $rounds -lt 25 ]; do
        sleep 5
        start "$1$rounds" && stop "$1$rounds"
        rounds=$((rounds + 1))
    done
}
fill() { # KIB: take all of the disk but about so much
    mkdir -p $disk/fill
    fallocate -l $(($1 << 10)) $disk/fill/spare
    size=$((256 << 20)) number=0
    while [ $size -ge 16384 ]; do
        if fallocate -l $size $disk/fill/$number 2>/dev/null; then
            number=$((number + 1))
        else
            rm -f $disk/fill/$number
            size=$((size / 4))
        fi
    done
    rm $disk/fill/spare
    sync
}
live() { # PREFIX: pods start for ever, and of two that have started the older one ends
    number=0
    while number=$((number + 1)); do
        start "$1$number"
        echo "@up $number"
        if [ $((number % 2)) = 0 ] && [ -e "/run/netns/$1$((number - 1))" ]; then
            stop "$1$((number - 1))"
        fi
    done
}
change() { # PREFIX: cni-reaper is taken out and put in again, for ever, and between the two a pod starts and ends
    number=0
    while number=$((number + 1)); do
        start "$1$number"
        echo "@uninstall $number"
        /root/cni-reaper uninstall --purge >/tmp/said 2>&1 || echo "@wrong uninstall: $(tail -n 1 /tmp/said)"
        stop "$1$number"
        echo "@install $number"
        /root/cni-reaper install --options "$(cat /power/options)" >/tmp/said 2>&1 || echo "@wrong install: $(tail -n 1 /tmp/said)"
    done
}
"$@"
