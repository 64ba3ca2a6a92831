"""Calls under the circumstances in which a runtime, a container or an operator may start them, on the one file."""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.answers import VERSIONS
from tests.support import agent, strace
from tests.support.cni_calls import BIN
from tests.support.commands import Command, Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR
from tests.support.programs import ROOT, Programs
from tests.support.stopped_call import STDIN, StoppedCall, stop_at
from tests.support.waiting import until

STARTS = 200
COPY = "/run/cni-reaper-copy"
VERSION = {"CNI_COMMAND": "VERSION"}
ANSWER = json.dumps({"cniVersion": VERSIONS[-1], "supportedVersions": VERSIONS}, separators=(",", ":")).encode()


def add(network: Network, script: str = "", environment: dict[str, str] | None = None) -> Command:
    """Describe an ADD of a new pod: by a shell script, in which "$0" is the executable, or directly."""
    node = network.node
    pod = node.pod()
    if not node.path(COPY).exists():  # where no mount of a script hides it
        shutil.copy(node.programs.reaper, node.path(COPY))
    owner = container_id(pod.name)
    command = node.plugin_command("ADD", network.head, netns=pod, container_id=owner, env=environment, binary=COPY)
    command["argv"] = [*(["bash", "-c", script] if script else []), *command["argv"]]
    return command


def under(network: Network, script: str) -> Ran:
    """Run what `add` describes."""
    return network.node.together([add(network, script)])[0]


def assert_heals(network: Network, script: str = "", environment: dict[str, str] | None = None, cwd: str = "/") -> None:
    """An ADD frees the leak, keeps the living, and answers on stdout alone; its files are for root alone."""
    node = network.node
    live, stale = network.add(node.pod("live")), network.leak()
    assert network.held() == {live, stale}
    (ran,) = node.together([{**add(network, script, environment), "cwd": cwd}])
    assert (ran.rc, ran.err) == (0, b""), str(ran)
    assert ran.json() == {"cniVersion": "1.0.0"}
    assert network.held() == {live}, node.log()
    for file in node.path(f"{STATE_DIR}/{NETWORK}").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert node.path(STATE_DIR).stat().st_mode & 0o077 == 0


SCRIPTS = {
    "few descriptors": 'ulimit -n 32; exec "$0"',
    "little memory": 'ulimit -v 65536; exec "$0"',
    "little stack": 'ulimit -s 256; exec "$0"',
    "umask 077": 'umask 077; exec "$0"',
    "umask 000": 'umask 000; exec "$0"',
    "no environment but CNI's": (
        'exec env -i CNI_COMMAND="$CNI_COMMAND" CNI_CONTAINERID="$CNI_CONTAINERID" CNI_NETNS="$CNI_NETNS" CNI_IFNAME=eth0 "$0"'
    ),
    "no name of its own": 'exec -a "" "$0"',
    "working directory deleted": 'mkdir /run/gone; cd /run/gone; rmdir /run/gone; exec "$0"',
    "no temporary directory": 'exec unshare --mount sh -c \'mount -t tmpfs -o ro none /tmp && exec "$0"\' "$0"',
    "no /dev": 'exec unshare --mount sh -c \'mount -t tmpfs none /dev && exec "$0"\' "$0"',
    "no /etc": 'exec unshare --mount sh -c \'mount -t tmpfs none /etc && exec "$0"\' "$0"',
    "TMPDIR is noexec": 'mkdir /run/tmp; mount -t tmpfs -o noexec tmpfs /run/tmp; TMPDIR=/run/tmp exec "$0"',
    "stderr closed": 'exec "$0" 2>&-',
    "a full pipe that is read late": (
        'mkfifo /run/pipe; exec 3<>/run/pipe 5<&0; head -c 65536 /dev/zero >&3; "$0" <&5 >&3 & '
        "until grep -qE '^(1|64) 0x1 ' /proc/$!/syscall; do :; done; "  # it is in write(2), to stdout
        "head -c 65536 <&3 >/dev/null; wait $!; code=$?; exec 4</run/pipe 3>&-; cat <&4; exit $code"
    ),
    "signals ignored": "trap '' PIPE HUP TERM CHLD; exec \"$0\"",
    "lowest priority": 'exec nice -n 19 "$0"',
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_an_add_heals(node: Node, script: str) -> None:
    """Whatever a runtime or a shell has left the call with."""
    assert_heals(Network(node), script)


ENVIRONMENTS = {
    "hostile to Python": {
        "PYTHONHOME": "/run/hostile",
        "PYTHONPATH": "/run/hostile",
        "PYTHONSTARTUP": "/run/hostile/startup.py",
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONIOENCODING": "bogus",
        "PYTHONMALLOC": "debug",
        "PYTHONUTF8": "0",
        "PYTHONOPTIMIZE": "0",
        "PYTHONHASHSEED": "bogus",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONDEVMODE": "1",
        "PYTHONPLATLIBDIR": "hostile",
        "PYTHONBREAKPOINT": "os.abort",
        "PYTHONWARNINGS": "error",
    },
    "hostile to a loader": {
        "LD_PRELOAD": "/run/hostile/preload.so",
        "LD_LIBRARY_PATH": "/run/hostile",
        "LD_AUDIT": "/run/hostile/preload.so",
        "LD_BIND_NOW": "1",
        "LD_DEBUG": "all",
        "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.perturb=85",
        "MALLOC_PERTURB_": "85",
        "MALLOC_CHECK_": "3",
    },
    "another locale": {
        "LC_ALL": "de_DE.ISO-8859-1",
        "LANG": "xx",
        "LANGUAGE": "de",
        "LOCPATH": "/run/hostile",
        "GCONV_PATH": "/run/hostile",
        "NLSPATH": "/run/hostile/%N",
        "TZ": "/run/hostile",
        "OUTPUT_CHARSET": "ISO-8859-1",
    },
    "an impossible locale": {"LC_ALL": "\n\x01/../..", "LC_CTYPE": "x" * 4000},
    "no such directories": {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PATH": "/usr/bin:/usr/sbin:/bin"},
    "inherited from another frozen program": {
        "_PYI_ARCHIVE_FILE": "/other",
        "_PYI_PARENT_PROCESS_LEVEL": "1",
        "_PYI_APPLICATION_HOME_DIR": "/run/hostile",
        "_PYI_SPLASH_IPC": "1",
        "_MEIPASS2": "/run/hostile",
        "PYINSTALLER_RESET_ENVIRONMENT": "1",
        "PYINSTALLER_STRICT_UNPACK_MODE": "1",
    },
}
HOSTILE_MODULE = "import os; os.abort()\n"


@pytest.fixture
def hostile(node: Node) -> Network:
    """A node with a directory of modules that end whatever imports them."""
    for name in ("encodings/__init__", "os", "site", "sitecustomize", "usercustomize", "json", "orjson", "argparse", "startup"):
        node.write(f"/run/hostile/{name}.py", HOSTILE_MODULE)
    node.write("/run/hostile/preload.so", "not a library")
    return Network(node)


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_no_environment_keeps_an_add_from_healing(hostile: Network, environment: dict[str, str]) -> None:
    """Nothing in it is listened to, and nothing in it makes the call say more."""
    assert_heals(hostile, environment=environment, cwd="/run/hostile")


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_no_environment_keeps_a_person_from_an_answer(hostile: Network, environment: dict[str, str]) -> None:
    """An operator's command runs the whole interpreter: it reads nothing of it either."""
    node = hostile.node
    address = hostile.add(node.pod("live"))
    ran = node.run([f"{BIN}/cni-reaper", "audit", "--map", "--subnet", "10.66.0.0/29"], env=environment, cwd="/run/hostile")
    assert (ran.rc, ran.err) == (0, b""), str(ran)
    assert "1 LIVE, 0 STALE, 0 UNKNOWN" in ran.out.decode(), address


def test_raw_bytes_in_variables_are_no_trouble(node: Node) -> None:
    """A variable of raw bytes is no trouble, nor is a netns with such a path: an error of the interpreter's core was one."""
    executable = node.programs.reaper
    answer = subprocess.run(
        [executable], env={b"CNI_COMMAND": b"VERSION", b"X": b"\xff\xfe"}, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, ANSWER, b"")
    assert_heals(Network(node), "X=$'\\xff\\xfe' exec \"$0\"")


def test_netns_path_of_raw_bytes_is_recorded_and_freed(node: Node) -> None:
    """Its path has bytes that no text has: ADD is done, a record is written, and the next ADD frees its address."""
    network = Network(node)
    network.add(node.pod("live"))
    path = b"/run/netns/\xff\xfe"
    script = 'exec env CNI_NETNS="$(printf \'/run/netns/\\377\\376\')" "$0"'
    node.run(["bash", "-c", "touch /run/netns/$'\\xff\\xfe' && exec unshare --net=/run/netns/$'\\xff\\xfe' true"]).check()
    assert path.rpartition(b"/")[2] in os.listdir(os.fsencode(node.path("/run/netns")))
    ran = under(network, script)
    assert (ran.rc, ran.err) == (0, b""), str(ran)


@pytest.mark.parametrize("closed", [one for n in range(4) for one in itertools.combinations((0, 1, 2), n)], ids=str)
@pytest.mark.parametrize("call", ["VERSION", "ADD", "a person's", "no arguments"])
def test_closed_descriptors_give_a_protocol_exit_code(node: Node, call: str, closed: tuple[int, ...]) -> None:
    """Each combination of stdin, stdout and stderr: an exit code of the protocol, no signal, no text in another file."""
    network = Network(node)
    network.add(node.pod("live"))
    stale = network.leak()
    redirections = " ".join(f"{number}>&-" for number in closed)
    arguments = "--version" if call == "a person's" else ""
    command = add(network, f'exec "$0" {arguments} {redirections}')
    if call != "ADD":
        command["env"] = {**({"CNI_COMMAND": "VERSION"} if call == "VERSION" else {}), "PATH": command["env"]["PATH"]}
    ran = node.together([command])[0]
    is_answered = 1 not in closed and not (call == "ADD" and 0 in closed)
    if call in ("VERSION", "ADD"):
        assert ran.rc == (0 if is_answered else 1), str(ran)
        assert ran.err == b""
        assert bool(ran.out) == (1 not in closed)
    else:
        assert ran.rc in (0, 1), str(ran)
        assert b"Traceback" not in ran.err
    assert (stale in network.held()) == (call != "ADD" or 0 in closed)
    for record in node.records(NETWORK).values():
        assert record["v"], "whole, whatever was written where"


def test_empty_verb_answers_a_person(node: Node) -> None:
    """CNI_COMMAND is there and empty: what it says to a person without arguments, and a command works."""
    executable = f"{BIN}/cni-reaper"
    ran = node.run([executable], env={"CNI_COMMAND": ""}).check()
    assert b"CNI protocol versions supported" in ran.err
    assert node.run([executable, "--version"], env={"CNI_COMMAND": ""}).check().out.startswith(b"cni-reaper ")


def test_unread_answer_fails_the_call_and_frees_the_leak(node: Node) -> None:
    """Stdout is a pipe without a reader: the call fails, as its result has reached nobody; the leak is freed all the same."""
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    assert stale in network.held()
    assert under(network, 'mkfifo /run/p; exec 3<>/run/p 4>/run/p 3>&-; "$0" >&4').rc == 1
    assert network.held() == {live}


@pytest.mark.parametrize("proc", ["none", "empty"])
def test_without_proc_a_call_succeeds_and_frees_nothing(node: Node, proc: str) -> None:
    """Nothing can be seen: VERSION, ADD and a person get their answers, with modules that are read from the file by its path."""
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    hide = "while umount -l /proc 2>/run/umount; do :; done" if proc == "none" else "mount -t tmpfs none /proc"
    script = f'exec unshare --mount sh -c \'{hide} && exec "$0" "$@"\' "$0"'
    ran = under(network, script)
    assert (ran.rc, ran.err) == (0, b""), str(ran)
    assert ran.json() == {"cniVersion": "1.0.0"}
    assert network.held() == {live, stale}
    assert node.log("sweep-skipped") or node.log("blind")
    answer = node.run(["bash", "-c", script, f"{BIN}/cni-reaper"], env=VERSION)
    assert (answer.rc, answer.out, answer.err) == (0, ANSWER, b"")
    ran = node.run(["bash", "-c", f"{script} --help", f"{BIN}/cni-reaper"]).check()
    assert b"conflist" in ran.out


def test_a_limit_of_file_sizes_fails_no_pod(node: Node) -> None:
    """RLIMIT_FSIZE is 0: the kernel would kill with SIGXFSZ whatever writes a record. ADD succeeds, and keeps the living."""
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    command = add(network, 'ulimit -f 0; exec "$0"')
    ran = node.together([command])[0]
    assert (ran.rc, ran.err) == (0, b""), str(ran)
    assert live in network.held(), stale


def test_seccomp_profile_frees_recorded_leaks_only(node: Node) -> None:
    """As in a container of a daemon without capabilities: setns(2) is forbidden, and a leak whose record proves it goes.

    Nor can portmap's rules be seen there: where no cache entry says that nothing was published, the leak stays, and says why.
    """
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    confined = f"cd {ROOT} && exec {sys.executable} -m tests.packaging.seccomp {os.environ['CNI_REAPER_SECCOMP']}"
    forbidden = node.run(["bash", "-c", f"{confined} /usr/bin/unshare --net true"])
    assert "Operation not permitted" in forbidden.text, "the profile holds"
    assert under(network, f'{confined} "$0"').rc == 0
    assert network.held() == {live, stale}
    assert [(line["reason"], line["address"]) for line in node.log("kept")] == [("port-published", stale)]
    owner, ifname = node.read(f"{DATA_DIR}/{NETWORK}/{stale}").splitlines()
    told = {"kind": "cniCacheV1", "containerId": owner, "ifName": ifname, "networkName": NETWORK}
    node.write(f"/var/lib/cni/results/{NETWORK}-{owner}-{ifname}", json.dumps(told))
    node.path(f"/run/cni-reaper/{NETWORK}.published").unlink(missing_ok=True)  # else it waits for ten seconds
    assert under(network, f'{confined} "$0"').rc == 0
    assert network.held() == {live}, (stale, node.log())


def test_read_only_copy_of_another_user_runs(node: Node) -> None:
    """Whose the file is does not matter, as long as it can be read; another user than root runs it, too."""
    copy = "/run/theirs/cni-reaper"
    node.path("/run/theirs").mkdir()
    shutil.copy(node.programs.reaper, node.path(copy))
    os.chown(node.path(copy), 12345, 12345)
    node.path(copy).chmod(0o555)
    node.mount("/run/theirs", "/run/theirs", flags=agent.MS_BIND)
    node.mount("none", "/run/theirs", flags=agent.MS_BIND | 32 | 1)  # MS_REMOUNT | MS_RDONLY
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy]
    assert node.run(as_nobody, env=VERSION).check().out == ANSWER
    network = Network(node)
    stale = network.leak()
    pod = node.pod()
    node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name), binary=copy).check()
    assert stale not in network.held()


def test_execute_only_file_runs_or_refuses(node: Node) -> None:
    """Mode 0111 and no right to read beyond it: no module can be read, and the call says so in the protocol's words or runs."""
    copy = "/run/unreadable"
    shutil.copy(node.programs.reaper, node.path(copy))
    node.path(copy).chmod(0o111)
    ran = node.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", copy], env=VERSION)
    assert (ran.rc, ran.json()["code"]) == (1, 102), str(ran)


def through_symlinks(node: Node, executable: Path) -> None:
    """Link to the executable by a relative link, a link to that, and a linked directory with a name that is not ASCII."""
    place = node.path("/run/cni bin ä→")
    place.mkdir()
    shutil.copy(executable, place / "cni-reaper")
    (place / "link").symlink_to("cni-reaper")
    (place / "again").symlink_to("link")
    node.path("/run/directory").symlink_to("cni bin ä→")


def test_starts_through_symlinks(node: Node) -> None:
    """By whatever name it is called, cold modules are read from the file that runs."""
    through_symlinks(node, node.programs.reaper)
    network = Network(node)
    for binary in ("/run/cni bin ä→/cni-reaper", "/run/cni bin ä→/again", "/run/directory/link"):
        stale = network.leak()
        pod = node.pod()
        node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name), binary=binary).check()
        assert stale not in network.held(), binary
        pod.delete()
        network.reap()


def replaced_by_garbage(path: Path) -> None:
    """Another file has its name, by rename, as after an upgrade."""
    new = path.with_name("new")
    new.write_bytes(b"garbage\n" * 100_000)
    new.chmod(0o755)
    new.rename(path)


@pytest.mark.parametrize("change", [replaced_by_garbage, Path.unlink], ids=["replaced", "removed"])
def test_upgrade_during_a_call_fails_nothing(node: Node, change: Callable[[Path], None]) -> None:
    """The call has read its configuration, then its file is another one: the modules it needs now come from the one that runs."""
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    executable = "/run/bin/cni-reaper"
    node.path("/run/bin").mkdir()
    shutil.copy(node.programs.reaper, node.path(executable))
    pod = node.pod()
    command = node.plugin_command("ADD", network.head, netns=pod, container_id=container_id(pod.name), binary=executable)
    call: StoppedCall = stop_at(node, command, "read", path=STDIN)
    assert stale in network.held()
    change(node.path(executable))
    assert call.go_on() == {"cniVersion": "1.0.0"}
    assert network.held() == {live}, node.log()


def test_upgrade_during_many_starts_fails_none(programs: Programs, tmp_path: Path) -> None:
    """200 starts at once while new files take the place of the old: each starts whole."""
    place = tmp_path / "cni-reaper"
    shutil.copy(programs.reaper, place)
    over, upgrades = threading.Event(), itertools.count()

    def keep_upgrading() -> None:
        while not over.is_set():
            new = tmp_path / "new"
            shutil.copy(programs.reaper, new)
            new.rename(place)
            next(upgrades)

    upgrading = threading.Thread(target=keep_upgrading)
    upgrading.start()
    try:
        for _ in range(5):
            started = [
                subprocess.Popen([place], env=VERSION, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(STARTS // 5)
            ]
            for process in started:
                out, err = process.communicate()
                assert (process.returncode, out, err) == (0, ANSWER, b"")
        until(lambda: next(upgrades) > 2, "there were upgrades meanwhile")
    finally:
        over.set()
        upgrading.join()


PYTHON = ("python", ".py", "lib-dynload", "encodings", "site-packages")
LIBC = (".so", "gconv", "nsswitch", "/locale", "/etc/passwd", "/etc/resolv.conf")


@dataclasses.dataclass
class Files:
    """The paths that a process has looked for, and those that it has opened."""

    looked_for: set[str]
    opened: set[str]

    def assert_nothing_of(self, names: tuple[str, ...]) -> None:
        """No path has one of these in it."""
        assert [path for path in sorted(self.looked_for) if any(name in path for name in names)] == []


def files_of(node: Node, command: Command) -> Files:
    """Run the executable under strace; not counted are its own path, what leads there, and what programs that it runs ask for."""
    trace = "/run/files"
    executable = Path(command["argv"][0])
    command["argv"] = ["strace", "-qq", "-s", "4096", "-o", trace, "-e", "trace=%file", *command["argv"]]
    node.together([command])
    lines = [line for line in node.read(trace).splitlines() if '"' in line]
    assert "execve(" in lines.pop(0)
    found = Files(set(), set())
    for line in lines:
        path = line.split('"')[1]
        if path not in map(str, (executable, *executable.parents)):
            found.looked_for.add(path)
            if "open" in line.partition('"')[0] and "= -1" not in line:
                found.opened.add(path)
    return found


LOCALES = [{}, {"LC_ALL": "de_DE.ISO-8859-1"}, {"LANG": "C.UTF-8"}]


@pytest.mark.parametrize("locale", LOCALES, ids=["none", "Latin 1", "UTF-8"])
def test_a_call_looks_for_nothing_of_python_and_libc(node: Node, locale: dict[str, str]) -> None:
    """VERSION opens the executable and what malloc asks the kernel; an ADD that heals also what it has to see of the node."""
    network = Network(node)
    version = {**add(network), "env": {**VERSION, **locale}}
    found = files_of(node, version)
    assert found.opened <= {"/proc/self/exe", "/proc/sys/vm/overcommit_memory"}
    found.assert_nothing_of((*PYTHON, *LIBC))
    live, stale = network.add(node.pod("live")), network.leak()
    assert stale in network.held()
    healing = add(network)
    healing["env"] = {**{key: value for key, value in healing["env"].items() if key.startswith("CNI_")}, **locale}
    files_of(node, healing).assert_nothing_of((*PYTHON, *LIBC))
    assert network.held() == {live}


@pytest.mark.parametrize("arguments", ["--help", "audit --map", "doctor --json", "version --verbose", "completion zsh"])
@pytest.mark.parametrize("locale", LOCALES, ids=["none", "Latin 1", "UTF-8"])
def test_a_person_needs_nothing_of_python_and_libc(node: Node, locale: dict[str, str], arguments: str) -> None:
    """The whole interpreter reads its modules from the executable, and no file of the node's libc but the time zone."""
    network = Network(node)
    network.add(node.pod("live"))
    node.conflist(NETWORK, [network.head, {"type": "bridge", "ipam": network.ipam["ipam"]}])
    command = add(network)
    found = files_of(node, {**command, "argv": [*command["argv"], *arguments.split()], "env": locale})
    found.assert_nothing_of(PYTHON)
    assert [path for path in found.opened if any(name in path for name in LIBC)] == []


def test_a_call_writes_no_file_but_its_own(node: Node) -> None:
    """An ADD that heals makes nothing outside the directories of its state: nothing is unpacked."""
    network = Network(node)
    network.add(node.pod("live"))
    network.leak()
    command = add(network)
    command["argv"] = [*strace.listing("/run/trace"), *command["argv"]]
    node.together([command])[0].check()
    made = [
        call.text for call in strace.calls(node.read("/run/trace")) if "O_CREAT" in call.text or call.name.startswith("mkdir")
    ]
    assert made
    assert [one for one in made if "/tmp" in one or "/root" in one] == []
