#!/bin/sh
# Install cni-reaper from a release that lies beside this script: sh install.sh [TARBALL] [OPTION...]
#
# TARBALL: cni-reaper-linux-<arch>-v<version>.tgz, by default the one of this machine's kind that lies here. It is compared with its
# .sha256 beside it, unpacked into a temporary directory, and its own `cni-reaper install OPTION...` does the rest; `--help` shows
# the options, `--dry-run` what would be done. Nothing is downloaded. TMPDIR: where to unpack, by default /var/tmp.
set -eu

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

case $(uname -s)-$(uname -m) in
Linux-x86_64) arch=amd64 ;;
Linux-aarch64) arch=arm64 ;;
*) fail "there is no release for $(uname -s) on $(uname -m): build one there with ./build.sh release" ;;
esac

case ${1-} in
"" | -*)
    set -- "$(dirname "$0")"/cni-reaper-linux-"$arch"-v*.tgz "$@"
    case ${2-} in
    */cni-reaper-linux-*.tgz) fail "several releases lie here: name the one to install" ;;
    esac
    ;;
esac
tarball=$1
shift
[ -f "$tarball" ] || fail "there is no $tarball: copy the release and its .sha256 here, or name it"
[ -f "$tarball.sha256" ] || fail "there is no $tarball.sha256, to compare the release with: copy it here, too"
case ${tarball##*/} in
cni-reaper-linux-"$arch"-v*) ;;
*) fail "$tarball is no release for $arch, which this machine is: take that one" ;;
esac

told=$(cut -d ' ' -f 1 <"$tarball.sha256")
is=$(sha256sum <"$tarball" | cut -d ' ' -f 1)
[ "$told" = "$is" ] || fail "$tarball is damaged: its SHA-256 is $is, and not $told as its .sha256 has it; copy it anew"

directory=$(mktemp -d "${TMPDIR:-/var/tmp}/cni-reaper-XXXXXX")
trap 'rm -rf "$directory"' EXIT
trap 'exit 143' HUP INT TERM
tar -xzf "$tarball" -C "$directory" || fail "$tarball cannot be unpacked into $directory, see above"
"$directory/cni-reaper" version >/dev/null ||
    fail "the release does not run in $directory, see above: is that mounted noexec? Then set TMPDIR to another directory"
"$directory/cni-reaper" install "$@"
