#!/bin/bash
# Runs as root inside the old root that release.py has made: CPython's source from Debian, checked, built, installed to /opt/python.
# In /build: sources.sha256, training.py, plugin/ (the plugin's source), wheels/ (orjson). Leaves python.version there.
set -euo pipefail
version=3.11.2-6+deb12u8 # Debian 12's, whose patches mend what was found since 3.11.2; another one: change sources.sha256 as well
cd /build
read -r _ mirror _ </etc/apt/sources.list # where debootstrap got the root from
echo "deb-src $mirror bookworm main" >/etc/apt/sources.list.d/bookworm.list
echo "$version" >python.version
apt-get -qq update
apt-get -qq source --download-only "python3.11=$version"
sha256sum --check --quiet sources.sha256
rm -rf source
dpkg-source --no-check -x "python3.11_$version.dsc" source >/dev/null
cd source

# The codec that every start needs comes frozen in the library, as the import system itself does: no file to look for.
sed -i "s/^        #'<encodings.\*>',/        '<encodings>', 'encodings.aliases', 'encodings.utf_8',/" Tools/scripts/freeze_modules.py
grep -q "encodings.utf_8'" Tools/scripts/freeze_modules.py
python3 Tools/scripts/freeze_modules.py >/dev/null

# Extension modules that the plugin uses are part of the library: no file to look for, none to load.
cat >Modules/Setup.local <<'SETUP'
*static*
_datetime _datetimemodule.c
fcntl fcntlmodule.c
select selectmodule.c
_socket socketmodule.c
_struct _struct.c
math mathmodule.c
_posixsubprocess _posixsubprocess.c
_random _randommodule.c
_bisect _bisectmodule.c
_opcode _opcode.c
_md5 md5module.c
_sha1 sha1module.c
_sha256 sha256module.c
_sha512 sha512module.c
SETUP

export CFLAGS=-O2
./configure --prefix=/opt/python --enable-shared --enable-optimizations --with-lto --without-doc-strings --with-ensurepip=no \
    --disable-test-modules OPT="-DNDEBUG -fwrapv -O2 -Wall" LDFLAGS="-Wl,-O1 -Wl,-Bsymbolic-functions -Wl,--as-needed"
make -j"$(nproc)" PROFILE_TASK=/build/training.py
make install
echo /opt/python/lib >/etc/ld.so.conf.d/python.conf
ldconfig
/opt/python/bin/python3.11 -I -S -c 'import encodings.utf_8 as codec, fcntl, _datetime; assert codec.__spec__.origin == "frozen"'
cd ..
rm -rf source
