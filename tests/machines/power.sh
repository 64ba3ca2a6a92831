#!/bin/busybox sh
# Pods on a machine whose power may go at any moment, by an old libcni's cnitool: power VERB ARGUMENTS, each below.
# Lists: /etc/cni/with and /etc/cni/without cni-reaper. Pods of the machine's last life are names in a file, a line each.
call() { # LIST VERB NAME
    env NETCONFPATH="/etc/cni/$1" /power/cnitool "$2" cbr0 "/run/netns/$3"
}
refused() { # LIST FILE: which pods of the last life cannot be ended, and why
    while read -r name; do
        call "$1" del "$name" >/tmp/said 2>&1 || echo "$name: $(tail -n 1 /tmp/said)"
    done <"$2"
}
found() { # the files of libcni's cache and flannel's directory, with their sizes
    cd /var/lib/cni || exit
    for file in results/* flannel/*; do
        [ ! -f "$file" ] || echo "$(wc -c <"$file") $file"
    done
}
start() {
    touch "/run/netns/$1"
    unshare -n mount --bind /proc/self/ns/net "/run/netns/$1"
    call with add "$1" >/tmp/said 2>&1 || echo "ADD of $1 failed: $(cat /tmp/said)"
}
stop() {
    call with del "$1" >/tmp/said 2>&1 || echo "DEL of $1 failed: $(cat /tmp/said)"
    umount "/run/netns/$1"
    rm "/run/netns/$1"
}
settle() { # a pod starts and ends every five seconds until no file is empty; how often
    rounds=0
    while found | grep -q '^0 ' && [ $rounds -lt 25 ]; do
        sleep 5
        start "settle-$rounds"
        stop "settle-$rounds"
        rounds=$((rounds + 1))
    done
    echo "$rounds"
}
live() { # PREFIX: pods start for ever, and of two that have started the older one ends; what was done is told
    number=0
    while number=$((number + 1)); do
        start "$1$number"
        echo "@up $number"
        sleep 0.5
        if [ $((number % 2)) = 0 ]; then
            stop "$1$((number - 1))"
            echo "@down $((number - 1))"
        fi
    done
}
"$@"
