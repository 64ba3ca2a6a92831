"""Whoever else has a process on a node: another user in a user namespace of its own, a pod that has one, or root.

Each has a netns and a mount namespace of its own, which its user namespace owns, and does one thing in there.
"""

import itertools

from tests.support.node import Node
from tests.support.waiting import until

ROOT, OTHER, POD, POD_OTHER = "root", "other", "pod", "other of pod"
"""Who: a process of root; one of another user; one that a runtime has put into a user namespace; a user in the last."""
_UID, _FIRST_OF_POD = 1000, 100_000
_NUMBERS = itertools.count()

_PROGRAM = """
import ctypes, os, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
who, what, told, *arguments = sys.argv[1:]
NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), "system call")
def mapped(process, inside, outside, count):
    for name in ("uid_map", "gid_map"):
        open(f"/proc/{process}/{name}", "w").write(f"{inside} {outside} {count}")
def own_user_namespace():
    user = os.geteuid()
    check(libc.unshare(NEWUSER))
    open("/proc/self/setgroups", "w").write("deny")
    mapped("self", 0, user, 1)
def user_namespace_by_root():
    asked, answer = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.read(asked[0], 1)
        mapped(child, 0, first_of_pod, 65536)
        os.write(answer[1], b"1")
        os.waitpid(child, 0)
        os._exit(0)
    check(libc.unshare(NEWUSER))
    os.write(asked[1], b"1")
    os.read(answer[0], 1)
    become(0)
def become(number):
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)
    check(libc.prctl(4, 1))  # PR_SET_DUMPABLE, or /proc/self is root's
def mount(source, target, flags, kind=None):
    check(libc.mount(source.encode(), target.encode(), kind, flags, None))
def address(verb, number):
    packed = struct.pack(">I", number)
    body = struct.pack("<BBBBI", 2, 32, 0, 0, 1) + b"".join(struct.pack("<HH", 8, kind) + packed for kind in (1, 2))
    flags = {20: 0x401, 21: 1}[verb]  # NLM_F_CREATE, NLM_F_REQUEST
    return struct.pack("<IHHII", 16 + len(body), verb, flags, 0, 0) + body
def add(first, count):
    route.send(struct.pack("<IHHIIBBHiII", 32, 16, 1, 0, 0, 0, 0, 0, 1, 1, 1))  # RTM_NEWLINK: lo is up
    for number in range(first, first + count):
        route.send(address(20, number))
def number_of(text):
    return struct.unpack(">I", socket.inet_aton(text))[0]

# what is done in the namespaces

def live():
    pass
def hold(first, count):
    add(number_of(first), int(count))
def change(first, count):
    add(number_of(first), int(count))
    last = number_of(first) + int(count)
    if os.fork() == 0:
        while os.getppid() != 1:
            route.send(address(20, last))
            route.send(address(21, last))
def mounts(size):
    base = "/dev/shm"
    mount("none", "/", 0x44000)  # MS_REC | MS_PRIVATE
    mount("tmpfs", base, 0, b"tmpfs")
    place = base + "/" + "/".join([" " * 250] * 15)  # in mountinfo a blank has four characters, in two fields
    os.makedirs(place)
    for _ in range(int(size) // 30_000 + 1):
        mount(place, place, 0x1000)  # MS_BIND
    with open("/proc/self/mountinfo", "rb") as file:
        assert sum(map(len, iter(lambda: file.read(1 << 20), b""))) > int(size)
def descriptors(last=""):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(min(most - 20, 20_000)):
        os.dup(null)
    if last:
        os.open(last, os.O_RDONLY)

first_of_pod, uid = FIRST, UID
if who == "other":
    become(uid)
    own_user_namespace()
elif who != "root":
    user_namespace_by_root()
if what != "descriptors":
    check(libc.unshare(NEWNS | NEWNET))
if who == "other of pod":
    become(uid)
    own_user_namespace()
    check(libc.unshare(NEWNS | NEWNET))
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
globals()[what](*arguments)
open(told, "w").write(str(os.getpid()))
time.sleep(600)
"""


def started(node: Node, who: str, what: str, *arguments: object) -> int:
    """Start a tenant, and return the PID of its process in the namespaces when it has done what it is to do.

    what: `live`; `hold` an address of lo, and so many that follow; `change` one behind them; `mounts`, whose list has a size;
    `descriptors`, 20,000 or as many as may be, and a last one of a path: without a netns of its own.
    """
    node.write("/run/tenants/none", "")
    node.path("/run/tenants").chmod(0o777)
    told = f"/run/tenants/{next(_NUMBERS)}"
    program = _PROGRAM.replace("FIRST", str(_FIRST_OF_POD)).replace("UID", str(_UID))
    process = node.start(["python3", "-I", "-c", program, who, what, told, *map(str, arguments)])
    place = node.path(told)

    def answer() -> str:
        if place.exists():
            return place.read_text()
        assert ") Z " not in node.path(f"/proc/{process}/stat").read_text(), f"{who} cannot {what}"
        return ""

    return int(until(answer, f"{who} is to {what}"))
