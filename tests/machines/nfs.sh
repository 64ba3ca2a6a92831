# shellcheck shell=busybox
# shellcheck disable=SC3037,SC2154 # echo -n is busybox'; step is init.sh's
# For scenarios: nodes of one machine, and Debian's NFS server on one of them. All waits are for a condition.

# node NAME: a node of its own: mount, UTS, network and PID namespace, /run, /tmp, /var, machine ID and boot ID.
node() {
    unshare --mount --uts --net --pid --fork /bin/sh /nfs/node "$1" &
    # its first process, by its number on the machine
    until [ -e "/proc/$(first $!)/root/run/ready" ]; do usleep 10000; done
    first $! >"/run/$1"
}
first() { tr -d ' ' <"/proc/$1/task/$1/children"; }

# on NODE COMMAND...: run it there. A program, so that it can be a step.
cat >/bin/on <<'EOF'
#!/bin/busybox sh
there=$(cat "/run/$1")
shift
exec nsenter -t "$there" -m -u -n -p "$@"
EOF
chmod +x /bin/on
export PATH="$PATH:/usr/sbin"

# wire NODE NUMBER: the server is 10.9.NUMBER.1 to it, and the node 10.9.NUMBER.2.
wire() {
    ip link add "to-$1" type veth
    ip link set "to-$1" netns "$(cat /run/server)"
    ip link set veth0 netns "$(cat "/run/$1")"
    on server ip address add "10.9.$2.1/24" dev "to-$1"
    on server ip link set "to-$1" up
    on "$1" ip address add "10.9.$2.2/24" dev veth0
    on "$1" ip link set veth0 up
}

# serve NODE...: export the server's /srv to nodes, which have rpc.statd for their locks of NFSv3.
serve() {
    node server
    # for a while after the start no lock is given; these are the shortest that the kernel takes
    printf 3 >/sys/module/lockd/parameters/nlm_timeout
    printf 3 >/sys/module/lockd/parameters/nlm_grace_period
    mkdir /srv
    on server mount -t tmpfs srv /srv
    on server mount -t nfsd nfsd /proc/fs/nfsd
    for one in server "$@"; do
        on "$one" rpcbind -w
        on "$one" rpc.statd --no-notify
    done
    step "export" on server exportfs -r
    step "threads" on server rpc.nfsd --grace-time 10 --lease-time 10 2
    step "mountd" on server rpc.mountd
}
