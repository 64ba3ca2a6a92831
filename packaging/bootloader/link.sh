#!/bin/bash
# link.sh ARCH: in the build root, PyInstaller's bootloader, libpython and orjson become one static executable: /build/work/bootloader.
# /build/project/packaging/bootloader has this and the C files beside it. ARCH: amd64 or arm64.
set -euo pipefail
case $1 in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
esac
triplet=$machine-linux-gnu
native=$([[ $(uname -m) == "$machine" ]] && echo yes || echo no)
work=/build/work sources=/build/work/source own=/build/project/packaging/bootloader headers=/usr/include library=/usr libc=()
if [[ $native == no ]]; then
    library=/build/other/usr headers=/build/other/usr/include
    libc=(-B"$library/lib/$triplet/" -L"$library/lib/$triplet" "-Wl,--sysroot=/build/other")
fi
rm -rf "$sources" && mkdir -p "$sources" && cp -r /build/pyinstaller/bootloader/{src,zlib} "$sources"

# change FILE TIMES BEFORE AFTER: the text must be there as often as said, or PyInstaller is another one than this was written for.
change() {
    python3 - "$sources/src/$1" "$2" "$3" "$4" <<'PY'
import sys
name, times, before, after = sys.argv[1:]
text = open(name).read()
if text.count(before) != int(times):
    sys.exit(f"{name}: {text.count(before)} times, and not {times}: {before}: look at link.sh")
open(name, "w").write(text.replace(before, after))
PY
}
# It starts the interpreter at once, and does not execute itself again with LD_LIBRARY_PATH set.
change pyi_main.c 2 'process_level = PYI_PROCESS_LEVEL_PARENT_NEEDS_RESTART;' 'process_level = PYI_PROCESS_LEVEL_MAIN;'
# It reads the file that runs, not the one that has its path by then: an upgrade may replace it meanwhile.
change pyi_main.c 1 'if (realpath(proc_path, executable_filename) == NULL) {' \
    'if (access(proc_path, R_OK) < 0 || strcpy(executable_filename, proc_path) == NULL) {'
# It reads the modules at once, and not in twenty parts.
change pyi_archive.c 1 $'const size_t CHUNK_SIZE = 8192;\n    unsigned char *buffer;' $'const size_t CHUNK_SIZE = 1 << 20;\n    unsigned char *buffer;'
# The linker binds what it calls of libpython; weakly, since it asks for functions of other versions, too.
# shellcheck disable=SC1003  # a backslash at the end of a line of C
change pyi_global.h 1 'alias.obj_ptr = dlsym(handle, #name); \' 'extern void name(void) __attribute__((weak)); alias.obj_ptr = (void *)&name; \'
change pyi_dylib_python.c 1 'dylib->handle = dlopen(dll_fullpath, dlopen_flags);' 'dylib->handle = (void *)1; (void)dlopen_flags;'
# The locale's converters (gconv) are libraries of the node. In utf-8 mode nothing needs them.
change pyi_pyconfig.c 1 'config.configure_locale = 1;' 'config.configure_locale = 0;'
change pyi_python.c 1 'status = dylib_python->Py_InitializeFromConfig(config_pep587);' \
    'extern void reaper_configure(void *); reaper_configure(config_pep587); status = dylib_python->Py_InitializeFromConfig(config_pep587);'
change pyi_python.c 1 'mod = dylib_python->PyImport_ExecCodeModule(toc_entry->name, co);' \
    'extern void *reaper_exec_module(const char *, void *); mod = reaper_exec_module(toc_entry->name, co);'

compile() { # compile FLAGS... FILE: into an object of the same name
    "$triplet-gcc" -O2 -g0 -fno-pie -ffunction-sections -fdata-sections -DNDEBUG "$@" -c -o "$work/objects/$(basename "${*: -1}" .c).o"
}
rm -rf "$work/objects" && mkdir "$work/objects"
for file in "$sources"/src/*.c "$sources"/zlib/*.c; do # as the bootloader's wscript has it
    compile -w -I"$sources/src" -I"$sources/zlib" -D_REENTRANT -D_BSD_SOURCE -D_DEFAULT_SOURCE -DHAVE_SEMAPHORE_H=1 -DPYI_USE_POSIX_SEMAPHORE \
        -DHAVE_STDBOOL_H=1 -DHAVE_UNSETENV=1 -DHAVE_MKDTEMP=1 -DHAVE_DIRNAME=1 -DHAVE_BASENAME=1 -DHAVE_WCSDUP=1 "$file"
done
python=(-isystem "$headers/python3.13" -isystem "$headers" -I/usr/include/python3.13 -I/usr/include/python3.13/internal)
for file in "$own"/*.c; do
    compile -Wall -Wextra -Werror "${python[@]}" "$file"
done
for name in termios mmapmodule _contextvarsmodule; do # not in Debian's archive
    compile -w "${python[@]}" -DPy_BUILD_CORE_MODULE "/build/cpython/Modules/$name.c"
done
compile -w -I/build/cpython/Modules/_hacl/include /build/cpython/Modules/_hacl/Hacl_Hash_SHA2.c # its own sha2module asks for it

"$triplet-gcc" -O2 -no-pie -static "${libc[@]}" -s -o "$work/bootloader" -Wl,--build-id=none -Wl,--gc-sections -Wl,--eh-frame-hdr \
    -Wl,--wrap=__register_frame_info -Wl,--wrap=__deregister_frame_info -Wl,--wrap=_PyGC_InitState \
    "$work"/objects/*.o -Wl,--start-group "/build/orjson-$machine.a" \
    "$library/lib/python3.13/config-3.13-$triplet/libpython3.13.a" -lm -lpthread -lgcc_eh -lc -Wl,--end-group
