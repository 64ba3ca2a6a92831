#!/bin/sh
# Install cni-reaper from a release: sh install.sh [TARBALL] [OPTION...]
#
# TARBALL: cni-reaper-linux-<arch>-v<version>.tgz, by default the one of this machine's kind that lies beside this script. It is
# compared with its .sha256 beside it and unpacked into a temporary directory. In an unpacked release the executable beside this
# script is taken. `cni-reaper install OPTION...` does the rest: `--help` shows the options, `--dry-run` what would be done.
# Nothing is downloaded. TMPDIR: where to unpack, by default /var/tmp.
set -eu

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

# run DIRECTORY ADVICE [OPTION...]: have the executable in a directory install itself.
run() {
    executable=$1/cni-reaper advice=$2
    shift 2
    "$executable" version >/dev/null || fail "the release does not run in ${executable%/*}, see above: is that mounted noexec? $advice"
    "$executable" install "$@"
}

case $(uname -s)-$(uname -m) in
Linux-x86_64) arch=amd64 ;;
Linux-aarch64) arch=arm64 ;;
*) fail "there is no release for $(uname -s) on $(uname -m)" ;;
esac
here=$(dirname "$0")

case ${1-} in
"" | -*)
    if [ -f "$here/cni-reaper" ]; then
        run "$here" "Then move the release to another directory" "$@"
        exit
    fi
    set -- "$here"/cni-reaper-linux-"$arch"-v*.tgz "$@"
    case ${2-} in
    */cni-reaper-linux-*.tgz) fail "several releases lie here: name the one to install" ;;
    esac
    ;;
esac
tarball=$1
shift
[ -f "$tarball" ] || fail "there is no $tarball: copy the release and its .sha256 here, or name it"
[ -f "$tarball.sha256" ] || fail "there is no $tarball.sha256, to compare the release with: copy it here, too"
name=${tarball##*/}
case $name in
cni-reaper-linux-"$arch"-v*.tgz) ;;
*) fail "$tarball is not a release for $arch, which this machine is: take that one" ;;
esac

told=$(cut -d ' ' -f 1 <"$tarball.sha256")
is=$(sha256sum <"$tarball" | cut -d ' ' -f 1)
[ "$told" = "$is" ] || fail "$tarball is damaged: its SHA-256 is $is, and its .sha256 says $told; copy it again"

directory=$(mktemp -d "${TMPDIR:-/var/tmp}/cni-reaper-XXXXXX")
trap 'rm -rf "$directory"' EXIT
trap 'exit 143' HUP INT TERM
tar -xzf "$tarball" -C "$directory" || fail "$tarball cannot be unpacked into $directory, see above"
run "$directory/${name%.tgz}" "Then set TMPDIR to another directory" "$@"
