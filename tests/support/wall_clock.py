"""Another wall clock for one program, a static one, too: python -I wall_clock.py STEP_S PROGRAM [ARGUMENT...]

Linux has no namespace for CLOCK_REALTIME. This process traces the program. At its start the kernel's vDSO is taken out of the
auxiliary vector (getauxval(3), AT_SYSINFO_EHDR). So the program asks for the time by the system call clock_gettime, and each
answer is changed by STEP_S seconds. Other clocks stay as they are. Ends with the program's exit code.
"""

import ctypes
import os
import signal
import struct
import sys

TRACEME, CONT_TO_SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
TRACE_SYSGOOD, KILL_WITH_TRACER = 1, 1 << 20
"""Of ptrace(2)."""
CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113}[os.uname().machine]
CLOCKS = (0, 5)
"""CLOCK_REALTIME and CLOCK_REALTIME_COARSE."""
AT_IGNORE, AT_SYSINFO_EHDR = 1, 33
ENTRY, EXIT = 1, 2
SYSCALL_STOP = signal.SIGTRAP | 0x80

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    """Make the system call of that name. Raises OSError."""
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def hide_vdso(pid: int, memory: int) -> None:
    """Take the vDSO out of the auxiliary vector of a process that has just been started."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        vector = file.read()
    with open(f"/proc/{pid}/maps") as file:
        (bounds,) = (line.split()[0] for line in file if line.rstrip().endswith("[stack]"))
    begins, ends = (int(one, 16) for one in bounds.split("-"))
    place = begins + os.pread(memory, ends - begins, begins).index(vector)
    for offset in range(0, len(vector), 16):
        if struct.unpack_from("<Q", vector, offset) == (AT_SYSINFO_EHDR,):
            os.pwrite(memory, struct.pack("<Q", AT_IGNORE), place + offset)


def follow(pid: int, step_s: int) -> int:
    """Trace a process that has just been started to its end; return its exit code, as a shell would."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    hide_vdso(pid, memory)
    ptrace(SETOPTIONS, pid, 0, TRACE_SYSGOOD | KILL_WITH_TRACER)
    told = ctypes.create_string_buffer(88)
    answer, deliver = 0, 0
    while True:
        ptrace(CONT_TO_SYSCALL, pid, 0, deliver)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        deliver = 0
        if os.WSTOPSIG(status) != SYSCALL_STOP:
            deliver = os.WSTOPSIG(status)
            continue
        ptrace(GET_SYSCALL_INFO, pid, len(told), ctypes.addressof(told))
        if told.raw[0] == ENTRY:
            number, clock, where = struct.unpack_from("<QQQ", told.raw, 24)
            answer = where if number == CLOCK_GETTIME and clock in CLOCKS else 0
        elif told.raw[0] == EXIT and answer:
            (seconds,) = struct.unpack("<q", os.pread(memory, 8, answer))
            os.pwrite(memory, struct.pack("<q", seconds + step_s), answer)


def main() -> None:
    """Run the program, see the module."""
    step_s, program = int(sys.argv[1]), sys.argv[2:]
    pid = os.fork()
    if pid == 0:
        ptrace(TRACEME, 0)
        os.execv(program[0], program)
    os.waitpid(pid, 0)  # it stops when it has been started
    sys.exit(follow(pid, step_s))


if __name__ == "__main__":
    main()
