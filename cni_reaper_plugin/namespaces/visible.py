"""Every network namespace that is visible from here: mounted, lived in, or held open. Asked only before something is reaped.

Only ENOENT, ENOTDIR and ESRCH mean gone. Whatever else a source answers is raised, and the caller must then take nothing
for dead. No file system but the kernel's nsfs and proc is asked anything: another may hang. Source: namespaces(7), proc(5).
"""

import errno
import fcntl
import posix

from cni_reaper_plugin.model import Netns
from cni_reaper_plugin.namespaces import netns, user_namespaces
from cni_reaper_plugin.scan_model import VisibleNetns
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.files import GONE_ERRNOS

_LOOKS = 6
_ATTEMPTS = 5
_FEW = 64  # descriptors cost no more than the look at their process
_POWERLESS_DESCRIPTORS = 1 << 14  # of all processes of other users together: less than a tenth of a second
_PLACES = 16  # of one netns that are descriptors: any will do
_FIRST_NUMBER, _LAST_NUMBER = 0xEFFFFFF8, 0xFFFFFFFF  # of namespaces, include/linux/proc_ns.h: unsigned int
_NS_GET_NSTYPE, _CLONE_NEWNET = 0xB703, 0x40000000  # _IO(0xb7, 3), Linux >= 4.11


def sees(path: str, its: Netns) -> bool:
    """Tell whether the netns at a path (CNI_NETNS) is among those visible from here: the self-check. Raises OSError.

    Either it is mounted where we look for mounts, or it is a process's that is not the host's own.
    """
    if path.startswith("/proc/"):
        return all(netns.identify_ino(host) != its.ino for host in netns.HOSTS)
    needle = b" net:[%d] " % its.ino  # blanks within a field are escaped, so it is a whole one
    return any(needle in _read_mountinfo(mountinfo) for mountinfo, _ in _near_mountinfos())


def shows_all(path: str, its: Netns) -> bool:
    """Tell whether the netns at the path of a DEL shows that the pods' netns are visible from here. Raises OSError.

    It must not be the host's. In the machine's first PID namespace it must be mounted for PID 1, or be a process's: there every
    process is seen. In another one, a node that is a container or merely a container on a node, it must be mounted for PID 1, and
    the mount that holds the directory above must be shared: a node's /run is, that of a container on it is not, so that a netns
    which somebody has made in there proves nothing.
    """
    if any(netns.identify_ino(host) == its.ino for host in netns.HOSTS):
        return False
    is_first = posix.stat("/proc/self/ns/pid").st_ino == netns.INITIAL_PID_NAMESPACE
    if path.startswith("/proc/"):
        return is_first
    data = _read_mountinfo("/proc/1/mountinfo")
    places = [mountpoint for ino, mountpoint in parse_mountinfo(data) if ino == its.ino]
    return any(is_first or _is_shared(data, place.rpartition("/")[0].rpartition("/")[0] or "/") for place in places)


def _is_shared(mountinfo: bytes, directory: str) -> bool:
    """Tell whether the mount that holds a directory is shared and gets nothing from another (proc(5), optional fields)."""
    holder, found = "", b""
    for line in mountinfo.splitlines():
        fields = line.split(b" ", 6)
        place = _unescaped(fields[4])
        if len(place) >= len(holder) and (directory + "/").startswith(place.rstrip("/") + "/"):
            holder, found = place, fields[6].partition(b"- ")[0]
    return found.startswith(b"shared:") and b"master:" not in found


class Sighting:
    """A visible netns and the places from which it can be entered or read.

    Attributes:
        ino: its inode number in the nsfs.
        mounts: absolute paths, also below /proc/<pid>/root.
        processes: process IDs.
        others: paths of threads that are in another netns than their leader, and of open descriptors.
        owned_by_other: another user owns it, None where that could not be read. It is read when the netns is first seen, since
            a user's process can end at any time. A netns that gets the same number later in this scan is younger than every
            reservation that is judged.
    """

    __slots__ = ("ino", "mounts", "others", "owned_by_other", "processes")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.mounts: list[str] = []
        self.processes: list[int] = []
        self.others: list[str] = []
        self.owned_by_other: bool | None = None

    @property
    def foreign(self) -> bool:
        """Whether another user owns it and root has not mounted it: a root runtime has no pod in it."""
        return bool(self.owned_by_other) and not self.mounts

    def identify(self) -> VisibleNetns:
        """Return it with its identity and a place; ctime is 0 where no place shows the inode now (overmounted, process gone).

        What leads through another process's root comes last: on the way there may be a file system that hangs.
        """
        found = self._find()
        found.foreign = self.foreign
        return found

    def _find(self) -> VisibleNetns:
        near = [path for path in self.mounts if not path.startswith("/proc/")]
        far = [path for path in self.mounts if path.startswith("/proc/")]
        processes = ["/proc/%d/ns/net" % pid for pid in self.processes]
        for path in (*near, *processes, *self.others, *far):
            try:
                found = netns.identify_fully(path)
            except OSError:
                continue
            if found.ino == self.ino:
                return VisibleNetns(found, path)
        return VisibleNetns(Netns(netns.nsfs_device(), self.ino, 0))


Sightings = dict[int, Sighting]


def everywhere(limit_s: float) -> Sightings:
    """Return every netns that is mounted in any mount namespace or that any process lives in. Raises OSError.

    TimeoutError when that takes longer than `limit_s`: a node may have a million open descriptors.

    Costs a look at every process; only for a sweep that is about to call something stale. The list of processes is read again
    until no unknown one is on it, a few times at most: a process may fork and end between two looks. A mount namespace counts
    once for each root, since a process in a chroot is not shown what is mounted outside.
    """
    seen = mounted()
    roots = {(_link_number("/proc/self/ns/mnt"), posix.readlink("/proc/self/root"))}
    looked_at: set[str] = set()
    descriptors = _Descriptors(seen)
    end = posix.times().elapsed + limit_s
    for _ in range(_LOOKS):
        new = [name for name in posix.listdir("/proc") if name.isdecimal() and name not in looked_at]
        if not new:
            break
        for name in new:
            looked_at.add(name)
            _look_at(seen, "/proc/" + name, roots, descriptors)
            if posix.times().elapsed > end:
                raise TimeoutError(errno.ETIMEDOUT, "there are too many processes and open files to look at")
    return seen


def lives_in(pid: int, its: Netns) -> bool:
    """Tell whether a process lives in a netns; False when it has ended. Raises OSError."""
    return _namespace_of("/proc/%d" % pid, "net") == its.ino


def mounted() -> Sightings:
    """Return the netns mounted in our mount namespace and in PID 1's, by inode number. Raises OSError."""
    seen: Sightings = {}
    for mountinfo, root in _near_mountinfos():
        _add_mounts(seen, mountinfo, root)
    return seen


def _near_mountinfos() -> list[tuple[str, str]]:
    """Return our mountinfo, and PID 1's where it is another one, each with the prefix under which we find its paths."""
    near = [("/proc/self/mountinfo", "")]
    if _link_number("/proc/self/ns/mnt") != _link_number("/proc/1/ns/mnt"):
        near.append(("/proc/1/mountinfo", "/proc/1/root"))
    return near


def _look_at(seen: Sightings, process: str, roots: set[tuple[int, str]], descriptors: "_Descriptors") -> None:
    """Add what a process shows, until it has kept its mount namespaces and roots for the time of a look. Raises OSError.

    A process that can neither mount nor change its mount namespace changes its root alone: any container of root may. Nothing
    that a runtime has mounted is seen from there alone, and it must not be able to stop all reaping.
    """
    for _ in range(_ATTEMPTS):
        if _is_looked_at(seen, process, roots, descriptors):
            return
    if user_namespaces.can_mount_nothing(process):
        return
    raise OSError(errno.EAGAIN, "%s changes its mount namespace faster than it can be read" % process)


def _is_looked_at(seen: Sightings, process: str, roots: set[tuple[int, str]], descriptors: "_Descriptors") -> bool:
    """Add the netns of a process, of its threads and of its descriptors, and what is mounted in views that nobody had yet.

    False when one of its tasks has left such a view meanwhile: which view the mounts that were read are of is not known then.
    """
    try:
        views: dict[int, str] = {}  # mount namespace -> the process, or the first of its threads that is in it
        leader = _namespace_of(process, "net")
        if leader:
            _sighting(seen, leader, process + "/ns/net").processes.append(int(process[6:]))
            views[_namespace_of(process, "mnt")] = process
        for thread in posix.listdir(process + "/task"):
            task = "%s/task/%s" % (process, thread)
            net = _namespace_of(task, "net")
            if net:
                views.setdefault(_namespace_of(task, "mnt"), task)
                if net != leader:
                    _sighting(seen, net, task + "/ns/net").others.append(task + "/ns/net")
        for task in list(views.values())[:1]:  # threads have one table of descriptors; a leader that has exited shows none
            descriptors.add(task)
        new = [(number, _root_of(task), task) for number, task in views.items() if number]
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return True
    for number, root, task in new:
        if (number, root) not in roots and not user_namespaces.are_mounts_foreign(task):
            _add_mounts_of(seen, task)
            if not _is_in(task, number, root):
                return not _namespace_of(process, "mnt")  # a process that has ended shows no more
            roots.add((number, root))
    return True


def _is_in(task: str, number: int, root: str) -> bool:
    """Tell whether a task is in a mount namespace and has a root, as it was before its mounts were read. Raises OSError."""
    try:
        return _namespace_of(task, "mnt") == number and _root_of(task) == root
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return False


def _root_of(task: str) -> str:
    return _target(task + "/root", "?" + task)


def _target(link: str, too_long: str, dir_fd: int | None = None) -> str:
    """Return what a link below /proc shows; `too_long` for a path that is longer than the kernel tells, which is a page.

    Anybody can make such a path, and must not be able to stop all reaping with it. Raises OSError.
    """
    try:
        return posix.readlink(link, dir_fd=dir_fd)
    except OSError as e:
        if e.errno != errno.ENAMETOOLONG:
            raise
        return too_long


def _namespace_of(task: str, kind: str) -> int:
    """Return the inode number of a task's netns or mount namespace, 0 where it has none any more.

    A leader thread that has exited has no ns links (ENOENT) while its other threads live on in their netns.
    """
    try:
        return _link_number("%s/ns/%s" % (task, kind))
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return 0


class _Descriptors:
    """Adds the netns that processes hold by an open descriptor; of a bound socket's netns nothing shows, see `peer_addresses`.

    A process that cannot enter a runtime's netns (user_namespaces.is_process_powerless) can hold only the one that it was
    started in, and can have any number of descriptors. Such processes are searched up to _POWERLESS_DESCRIPTORS in all, without
    those that have only a few; a process with more than the rest is skipped.
    """

    __slots__ = ("_left", "_seen")

    def __init__(self, seen: Sightings) -> None:
        self._seen = seen
        self._left = _POWERLESS_DESCRIPTORS

    def add(self, task: str) -> None:
        """Add those of a task's table. Raises OSError."""
        directory = task + "/fd"
        fd = posix.open(directory, files.DIRECTORY)
        try:
            number = posix.fstat(fd).st_size  # of descriptors, since Linux 6.2: a million are not even listed
            names = [] if number else posix.listdir(fd)
            number = number or len(names)
            if number > _FEW and user_namespaces.is_process_powerless(task):
                if number > self._left:
                    return
                self._left -= number
            for name in names or posix.listdir(fd):
                self._add_one(fd, name, directory)
        finally:
            posix.close(fd)

    def _add_one(self, fd: int, name: str, directory: str) -> None:
        try:
            link = _target(name, "/", fd)  # what is behind is asked then
        except OSError as e:
            if e.errno not in GONE_ERRNOS:
                raise
            return
        if not link.startswith("net:[") and link != "/":
            return
        path = "%s/%s" % (directory, name)
        ino = int(link[5:-1]) if link != "/" else _unmounted(path)
        if ino:
            others = _sighting(self._seen, ino, path).others
            if len(others) < _PLACES:
                others.append(path)


def _unmounted(path: str) -> int:
    """Return the inode number of the netns behind a descriptor that shows as `/`, 0 where there is none.

    One that was opened at a netns' mount point shows as that path, and as `/` once the mount is gone. So does the root of any
    other file system that is gone, and to ask one whose server hangs is to hang. So what the kernel knows itself (fdinfo, the
    number since Linux 5.14) is read first: the number has to be a namespace's, and the file not opened as a directory. Where no
    number is told it is one of a process that could have entered a netns: no other user makes us wait. What is left is opened
    without asking.
    """
    try:
        about = files.read(path.replace("/fd/", "/fdinfo/"))
        number = about.partition(b"ino:\t")[2].split(b"\n", 1)[0]
        if number and not _FIRST_NUMBER <= int(number) <= _LAST_NUMBER:
            return 0
        if not number and user_namespaces.is_process_powerless(path.rpartition("/fd/")[0]):
            return 0
        if int(about.partition(b"flags:\t")[2].split(b"\n", 1)[0], 8) & posix.O_DIRECTORY:
            return 0
        fd = files.open_on_device(path, netns.nsfs_device())
    except (OSError, ValueError):
        return 0
    try:
        ino = posix.fstat(fd).st_ino
        try:
            return ino if fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET else 0
        except OSError:
            return ino  # a namespace of any kind: better one too many
    finally:
        posix.close(fd)


def _link_number(path: str) -> int:
    """Return 4026531840 of a link `net:[4026531840]`."""
    link = posix.readlink(path)
    return int(link[link.index("[") + 1 : -1])


def _sighting(seen: Sightings, ino: int, path: str = "") -> Sighting:
    """Return what is known of a netns so far; path: what leads to it now, "" for a mount, which needs no owner."""
    found = seen.get(ino)
    if found is None:
        found = seen[ino] = Sighting(ino)
    if path and found.owned_by_other is None and not found.mounts:
        found.owned_by_other = user_namespaces.is_netns_foreign(ino, path)
    return found


def _add_mounts_of(seen: Sightings, task: str) -> None:
    """Add the mounts of a task's mount namespace; nothing when it is gone (EINVAL: it is exiting). Raises OSError."""
    try:
        _add_mounts(seen, task + "/mountinfo", task + "/root")
    except OSError as e:
        if e.errno not in (*GONE_ERRNOS, errno.EINVAL):
            raise


def _add_mounts(seen: Sightings, mountinfo: str, root: str) -> None:
    for ino, mountpoint in parse_mountinfo(_read_mountinfo(mountinfo)):
        _sighting(seen, ino).mounts.append(root + mountpoint)


def _read_mountinfo(path: str) -> bytes:
    """Read a mountinfo whole; before Linux 5.8 entries can be skipped while mounts go, so until two reads agree."""
    data = files.read(path)
    release = posix.uname().release.split(".")
    if (int(release[0]), int("".join(c for c in release[1] if c.isdecimal()))) >= (5, 8):
        return data
    for _ in range(20):
        again = files.read(path)
        if again == data:
            return data
        data = again
    raise OSError(errno.EAGAIN, "mountinfo changes faster than it can be read")


def parse_mountinfo(data: bytes) -> list[tuple[int, str]]:
    """Return (inode number, mount point) of each mounted netns. Source: proc(5), fields 4 and 5 of mountinfo."""
    found = []
    for line in data.split(b"\n"):
        if b" net:[" not in line:
            continue
        fields = line.split(b" ", 5)
        root = fields[3]
        if root.startswith(b"net:["):
            found.append((int(root[5:-1]), _unescaped(fields[4])))
    return found


def _unescaped(field: bytes) -> str:
    """Undo the octal escapes of mountinfo: blank, tab, newline and backslash."""
    for escape, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escape, char)
    return field.decode("utf-8", "surrogateescape")
