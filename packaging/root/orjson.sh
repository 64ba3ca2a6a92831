#!/bin/bash
# orjson.sh "MACHINE COMPILER"...: in the build root, orjson's source package becomes a static library for each of these machines:
# /build/orjson-<machine>.a
set -euo pipefail
cd /build/orjson
once() { # once FILE PATTERN REPLACEMENT: exactly one line is changed, or orjson is another one than this was written for
    [[ $(grep -c "$2" "$1") == 1 ]] || { echo "orjson's $1 has changed: look at $2 in orjson.sh" >&2; exit 1; }
    sed -i "s/$2/$3/" "$1"
}
once Cargo.toml '^crate-type = \["cdylib"\]' 'crate-type = ["staticlib"]'
# What the building machine's processor has is no question for another machine's.
once build.rs '^.*rustc-cfg=feature=.*avx512.*$' 'if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") { & }'
printf '%s\n' implementation=CPython version=3.13 shared=false abi3=false pointer_width=64 suppress_build_script_link_lines=true >/build/pyo3.cfg
export PYO3_CONFIG_FILE=/build/pyo3.cfg CARGO_HOME=/build/cargo CC=gcc
for target in "$@"; do
    read -r machine compiler <<<"$target"
    triple=$machine-unknown-linux-gnu
    name=${triple//-/_} own=$(uname -m)_unknown_linux_gnu # of the build scripts, which run here
    export "CARGO_TARGET_${name^^}_LINKER=$compiler" "CC_$name=$compiler" "CARGO_TARGET_${own^^}_LINKER=gcc"
    cargo build --quiet --release --offline --target "$triple"
    mv "target/$triple/release/liborjson.a" "/build/orjson-$machine.a"
done
rm -rf target /build/cargo
