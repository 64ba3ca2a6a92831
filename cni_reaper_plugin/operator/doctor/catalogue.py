"""All that the doctor can find, and every sentence that it says: one page to read, to edit, and to make docs/doctor.md from.

After a change: `python -m tests.doctor_table` writes the tables of docs/doctor.md; a test compares them.
"""

from __future__ import annotations

from typing import NamedTuple

from cni_reaper_plugin.notices import lifeless
from cni_reaper_plugin.operator.conflists.position import ENTRY
from cni_reaper_plugin.operator.mend import broken_files

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
LEVELS = (OK, NOTE, WARNING, ERROR)
CONFLISTS, EXECUTABLES, NODE = "Conflists", "Executables", "Node"
SECTIONS = (CONFLISTS, EXECUTABLES, NODE)


class Finding(NamedTuple):
    """One thing that is so on this node.

    Attributes:
        level: one of LEVELS.
        key: of its Kind; scripts go by it.
        subject: a file, a directory, or `node`.
        finding: what is so.
        advice: what to do about it, "" for nothing.
    """

    level: str
    key: str
    subject: str
    finding: str
    advice: str


class Kind(NamedTuple):
    """What the doctor can find. A name in braces is a value that `at` is given; `{entry}` is the entry in a conflist.

    Attributes:
        section: of docs/doctor.md, one of SECTIONS.
        key: keeps its meaning and its level from version to version; the sentences need not.
        level: one of LEVELS.
        what: what is so.
        advice: what to do about it; each warning and each error has one.
        more: what docs/doctor.md adds to it.
    """

    section: str
    key: str
    level: str
    what: str
    advice: str = ""
    more: str = ""

    def at(self, subject: str, **values: object) -> Finding:
        """Return the finding about a subject. values: for the names in braces; raises KeyError where one is missing."""
        what, advice = (text.format(entry=ENTRY, **values) for text in (self.what, self.advice))
        return Finding(self.level, self.key, subject, what, advice)


# Conflists

NO_CONFLIST = Kind(
    CONFLISTS,
    "no-conflist",
    ERROR,
    "There is no conflist: no pod gets a network here.",
    "Let the network plugin of the cluster write it first, then install cni-reaper; or name its directory: --conf-dir.",
)
CONFIG_UNREADABLE = Kind(
    CONFLISTS,
    "config-unreadable",
    WARNING,
    "A runtime's configuration cannot be read, so its directories are not known: {trouble}",
    "Correct it, or name the directories: --conf-dir, --bin-dir.",
)
UNREADABLE = Kind(
    CONFLISTS,
    "unreadable",
    ERROR,
    "cni-reaper cannot load the conflist in use. If the runtime cannot either, the node is NotReady.",
    "{trouble}",
    "It is not valid JSON, has no `name` or no `plugins`, or is a list in a file that is not named `*.conflist`.",
)
UNREADABLE_UNUSED = Kind(
    CONFLISTS,
    "unreadable-unused",
    WARNING,
    "cni-reaper cannot load this file. It is not in use now; if it becomes the first by name, the runtime may load none.",
    "{trouble}",
)
IN_PLACE = Kind(
    CONFLISTS,
    "in-place",
    OK,
    "cni-reaper is number {number} of {count} plugins, as it should be.",
    more="It is first, or second where it belongs there.",
)
NOT_IN_CHAIN = Kind(
    CONFLISTS,
    "not-in-chain",
    ERROR,
    "The runtime uses this file, its plugins use host-local, and cni-reaper is not in it: leaked addresses are not freed.",
    "Run `cni-reaper install`, which puts {entry} at the head of `plugins`.",
)
ONLY_IN_UNUSED = Kind(
    CONFLISTS,
    "only-in-unused",
    ERROR,
    "The runtime uses this file, and the entry of cni-reaper is in another one: {other}.",
    "Put {entry} at the head of `plugins` here.",
)
NOT_IN_UNUSED = Kind(
    CONFLISTS,
    "not-in-unused",
    NOTE,
    "It uses host-local and has no entry of cni-reaper; the runtime of a kubelet uses another file.",
    "If podman, nerdctl or multus uses it, put {entry} at its head.",
)
TWICE = Kind(
    CONFLISTS,
    "twice",
    WARNING,
    "cni-reaper is in it {count} times.",
    "Run `cni-reaper install`, which leaves the first entry only.",
)
NOT_FIRST = Kind(
    CONFLISTS,
    "not-first",
    WARNING,
    "cni-reaper is number {number} of {count} plugins. While the pool is full the chain ends before it, "
    "and only the DEL that follows frees anything.",
    "Run `cni-reaper install`, which moves {entry} to the head of `plugins`.",
)
MUST_BE_SECOND = Kind(
    CONFLISTS,
    "must-be-second",
    ERROR,
    "cni-reaper is number {number} of {count} plugins. It must come right after {first}, which would otherwise misread "
    "the result of cni-reaper.",
    "Run `cni-reaper install`, which moves {entry} there.",
    "That is ipvlan without `master`, cilium-cni outside chaining mode, and loopback.",
)
BAD_OPTIONS = Kind(
    CONFLISTS,
    "bad-options",
    ERROR,
    "Options are wrong: {problems}.",
    "Correct each: with any wrong option nothing is reaped (docs/options.md).",
)
DRY_RUN = Kind(
    CONFLISTS,
    "dry-run",
    NOTE,
    "`dryRun` is on: cni-reaper logs what it would free, and frees nothing.",
    more="Take it out when the log shows what you expect.",
)
SAME_STORE = Kind(
    CONFLISTS,
    "same-store",
    OK,
    "host-local keeps its reservations in {data_dir}, and cni-reaper looks there.",
)
DATA_DIR_DIFFERS = Kind(
    CONFLISTS,
    "data-dir-differs",
    ERROR,
    "host-local keeps its reservations in {theirs}, and cni-reaper looks in {ours}: nothing is freed.",
    'Write "dataDir": "{theirs}" into the entry of cni-reaper.',
)
NETWORK_LEFT_OUT = Kind(
    CONFLISTS,
    "network-left-out",
    ERROR,
    "`networks` has {networks} and not {name}, the network of this list.",
    'Add "{name}" to `networks`, or leave the option out.',
)
NOT_HOST_LOCAL = Kind(
    CONFLISTS,
    "not-host-local",
    NOTE,
    "No plugin in it uses host-local ({kinds}): there is nothing for cni-reaper to free.",
)
SINGLE_PLUGIN = Kind(
    CONFLISTS,
    "single-plugin",
    ERROR,
    "It holds one plugin and no list, so there is no chain for cni-reaper.",
    "Run `cni-reaper install`: it prints the .conflist to write in its place, with the same `name` and `cniVersion`.",
)
DROP_IN = Kind(
    CONFLISTS,
    "drop-in",
    NOTE,
    "The directory {name} exists beside it: libcni 1.3 and later (containerd 2.1, CRI-O 1.33) appends every `*.conf` in it.",
    "Leave the entry of cni-reaper in the list itself: older runtimes ignore the directory.",
)
DROP_IN_OURS = Kind(
    CONFLISTS,
    "drop-in-ours",
    WARNING,
    "The entry of cni-reaper is in the directory {name} beside it: libcni before 1.3 ignores that silently, "
    "later versions put it at the tail.",
    "Put {entry} at the head of `plugins` instead: at the tail cni-reaper is not called while the pool is full.",
)
VERSION_UNKNOWN = Kind(
    CONFLISTS,
    "version-unknown",
    ERROR,
    "cni-reaper does not know its `cniVersion` {version}: each ADD fails with error 1.",
    "Write one of {known}, or install a newer cni-reaper.",
)
VERSION_OLD = Kind(
    CONFLISTS,
    "version-old",
    WARNING,
    "Its `cniVersion` {version} is older than lists of plugins, which came with 0.3.0.",
    "Write 0.4.0 or 1.0.0, if all its plugins know that version.",
)
REWRITTEN = Kind(
    CONFLISTS,
    "rewritten",
    NOTE,
    "This file is written again by {writer}.",
    "Keep something running that puts the entry back: docs/install.md.",
    "The entry of cni-reaper is gone then.",
)
MULTUS_COPY = Kind(
    CONFLISTS,
    "multus-copy",
    NOTE,
    "Multus (thin) made this from a copy of {original}.",
    "Edit {original}, never this file: multus writes it again whenever that one changes.",
)
MULTUS_BEHIND = Kind(
    CONFLISTS,
    "multus-behind",
    WARNING,
    "cni-reaper is in {original}, and not yet in the copy here that multus runs.",
    "Look again in a few seconds; if it stays so, restart the multus pod.",
)
MULTUS_EDITED = Kind(
    CONFLISTS,
    "multus-edited",
    WARNING,
    "cni-reaper is in the copy here, and not in {original}, of which it is made.",
    "Put {entry} at the head there: this copy will be overwritten.",
)
MULTUS_MASTER = Kind(
    CONFLISTS,
    "multus-master",
    WARNING,
    "Multus hands on to {path}, which cannot be loaded.",
    "{trouble}",
)
MULTUS_THICK = Kind(
    CONFLISTS,
    "multus-thick",
    NOTE,
    "Multus (thick) runs the chain in its daemon, from {path}.",
    "The daemon needs the host's PID namespace and the host's /run/netns. Without them cni-reaper frees nothing, "
    "and logs `blind`.",
)
CILIUM = Kind(
    CONFLISTS,
    "cilium",
    NOTE,
    "By default Cilium renames other conflists, and writes its own again.",
    "Set `cni.exclusive=false` if another conflist is to stay, or if this one is to keep an entry of cni-reaper.",
)
CILIUM_RENAMES = Kind(
    CONFLISTS,
    "cilium-renames",
    WARNING,
    "Cilium has renamed other conflists here to `*.cilium_bak`.",
    "Set `cni.exclusive=false` in Cilium's values before you install cni-reaper.",
)

# Executables

EXECUTABLE = Kind(EXECUTABLES, "executable", OK, "The runtime finds it{where}.", more="And for which architecture it is.")
EXECUTABLE_MISSING = Kind(
    EXECUTABLES,
    "executable-missing",
    ERROR,
    "cni-reaper is in none of the directories in which the runtime looks: {directories}.",
    "Run `cni-reaper install`: docs/install.md.",
    "With the entry in a list no pod starts.",
)
EXECUTABLE_LINK_TO_NOTHING = Kind(
    EXECUTABLES,
    "executable-missing",
    ERROR,
    "It is a link to {target}, which does not exist.",
    "Run `cni-reaper install`: docs/install.md.",
)
NOT_EXECUTABLE = Kind(EXECUTABLES, "not-executable", ERROR, "It exists, and is not executable.", "chmod 755 {path}")
NOEXEC = Kind(
    EXECUTABLES,
    "noexec",
    ERROR,
    "The file system it is on is mounted noexec.",
    "Mount it without noexec, or install into a directory elsewhere and name that to the runtime.",
)
OTHER_ARCHITECTURE = Kind(
    EXECUTABLES,
    "other-architecture",
    ERROR,
    "It is built for {built_for}, and this kernel runs {kernel}.",
    "Run `install` of the file for this architecture: docs/install.md.",
)
EXECUTABLE_INTACT = Kind(EXECUTABLES, "executable-intact", OK, "Its content has the SHA-256 that it was built with.")
EXECUTABLE_DAMAGED = Kind(
    EXECUTABLES,
    "executable-damaged",
    ERROR,
    "It is damaged: its SHA-256 is {found}, and it was built with {built_with}.",
    "Run `install` of an intact one: docs/install.md.",
    "It may still run: the damage may be in a part that is read later.",
)
EXECUTABLE_UNREADABLE = Kind(
    EXECUTABLES,
    "executable-damaged",
    ERROR,
    "It cannot be read: {trouble}.",
    "Run `install` of an intact one: docs/install.md.",
)
EXECUTABLE_NO_SUM = Kind(
    EXECUTABLES,
    "executable-no-sum",
    NOTE,
    "It does not end with its sum: it is of version 0.1.0, cut off, or not a file of cni-reaper.",
    "Run `install`, if it is to be this version.",
)
LINK_LEAVES = Kind(
    EXECUTABLES,
    "link-leaves",
    NOTE,
    "It is a link to {real}, outside of its directory.",
    "If a runtime in a container (multus thick, kind) sees only {directory}, install cni-reaper there: README.md.",
)
PLUGIN_MISSING = Kind(
    EXECUTABLES,
    "plugin-missing",
    ERROR,
    "The plugin {kind} of the chain is in none of {directories}.",
    "Install it, or take it out of the list: without it no pod starts.",
)

# The node

NOT_ROOT = Kind(
    NODE,
    "not-root",
    WARNING,
    "The doctor does not run as root: what it cannot read counts as missing.",
    "Run it as root, on the host.",
)
WRITABLE = Kind(NODE, "writable", OK, "{directory} can be written: {purpose}.", more="That is `stateDir` and `/run/cni-reaper`.")
NOT_WRITABLE = Kind(
    NODE,
    "not-writable",
    ERROR,
    "{directory} cannot be written: {purpose}.",
    "Make {parent} writable for root, on a file system that is not read-only.",
    "Without one of them fewer leaks are freed.",
)
STORE_UNREADABLE = Kind(
    NODE,
    "store-unreadable",
    ERROR,
    "host-local's store {data_dir} cannot be listed: {trouble}.",
    "Look at what is there; host-local makes it a directory.",
)
STORE_SHARED = Kind(
    NODE,
    "store-shared",
    ERROR,
    "host-local's store {path} is on a network file system ({kind}), which other nodes may have mounted. "
    "Nothing is freed here except what a record of this node proves dead.",
    "Give each node a dataDir on a disk of its own: `dataDir` in `ipam`, and in the entry of cni-reaper.",
    "NFS, SMB, CephFS, 9p, FUSE and others.",
)
RECORDS_SHARED = Kind(
    NODE,
    "records-shared",
    ERROR,
    "Another node of this kernel, or this one under another name, writes records into {state_dir}. "
    "What it recorded in this boot is kept here, and so is what has no record.",
    "Give each container node a /var/lib/cni of its own; for a node that got another name the next boot ends it.",
    "Container nodes that share one `/var/lib/cni`, or a node that got another machine ID or name.",
)
STORE_ELSEWHERE = Kind(
    NODE,
    "store-elsewhere",
    WARNING,
    "{count} attachments of network {network} that live are recorded, and {directory} has no reservation of any: "
    "host-local's store is elsewhere, or the network has another IPAM. Nothing of it is freed.",
    "Find the store (a plugin such as antrea's has it in its own mount namespace) and name it: `dataDir`.",
    "They have been recorded for two minutes or more. For a network with another IPAM do nothing.",
)
STORE_IN_MEMORY = Kind(
    NODE,
    "store-in-memory",
    NOTE,
    "host-local's store {data_dir} is on {file_system}: it is emptied at reboot; only leaks since this boot can exist.",
)
SYSLOG = Kind(NODE, "syslog", OK, "There is a /dev/log: events are in syslog, ident cni-reaper.")
NO_SYSLOG = Kind(NODE, "no-syslog", NOTE, "There is no /dev/log: events are in `logFile` alone.")
NOBODY_TOLD = Kind(
    NODE,
    "nobody-told",
    WARNING,
    "There is no /dev/log, and `logFile` is not set: what is freed, and why, is logged nowhere.",
    'Write "logFile": "/var/log/cni-reaper.log" into the entry of cni-reaper, or run a syslog.',
)
LOG_FILE = Kind(
    NODE,
    "log-file",
    WARNING,
    "`logFile` {file} cannot be written: events are lost, and nothing else reports it.",
    "Make {directory}, writable for root.",
)
METRICS_FILE = Kind(
    NODE,
    "metrics-file",
    WARNING,
    "The directory of `metricsFile` {file} does not exist, or cannot be written: nothing is counted.",
    "Make {directory}; cni-reaper does not.",
)
VIEW_PROVEN = Kind(NODE, "view-proven", OK, "An ADD of this boot has seen its own pod's network namespace from here.")
VIEW_NOT_YET = Kind(
    NODE,
    "view-not-yet",
    NOTE,
    "No ADD has run in this boot yet; the first one shows whether it sees its pod's netns.",
    more="This shell is the host's. Look again after the first pod.",
)
VIEW_UNPROVEN = Kind(
    NODE,
    "view-unproven",
    WARNING,
    "No ADD of this boot has seen its pod, and this shell is in namespaces of its own: the commands free nothing here.",
    "Start a pod, or run this on the host itself, and look again.",
)
VIEW_OTHER = Kind(
    NODE,
    "view-other",
    WARNING,
    "The ADDs of this boot saw their pods from other PID or mount namespaces than this shell's: the commands free nothing here.",
    "Run the commands there: on the host itself, not in a pod or in `kubectl debug`.",
)
VIEW_UNREADABLE = Kind(
    NODE,
    "view-unreadable",
    WARNING,
    "The PID and mount namespaces of this shell, or of others, cannot be read from /proc: {trouble}.",
    "Run it on the host, as root with all capabilities (CAP_SYS_PTRACE), and with /proc mounted.",
    "A call that cannot read them frees nothing.",
)
BLIND = Kind(
    NODE,
    "blind",
    ERROR,
    "cni-reaper has run in this boot, and no ADD could see its own pod's network namespace: nothing is freed.",
    "The plugins run where /run/netns is not the host's (multus' daemon?): look for event=blind in the log.",
    "Multus' daemon needs the host's PID namespace and `/run/netns`; of a strict snap use the classic one.",
)
RUNTIME_ELSEWHERE = Kind(
    NODE,
    "runtime-elsewhere",
    WARNING,
    "{name} (process {pid}) is in another mount namespace than this shell: it may see other files and pods.",
    "Run this there: nsenter -t {pid} -m cni-reaper doctor",
)
STRICT_SNAP = Kind(
    NODE,
    "strict-snap",
    WARNING,
    "{name} is confined by a strict snap ({profile}): the plugins it runs may not see the pods' network namespaces.",
    "Look for event=blind in the log; use the classic snap if it is there.",
)
ROOTLESS = Kind(
    NODE,
    "rootless",
    NOTE,
    "This is a user namespace (rootless): the pods of the host's own root are not seen, and their addresses not freed.",
)
HIDEPID = Kind(
    NODE,
    "hidepid",
    WARNING,
    "/proc is mounted with hidepid, and this process may not read others (CAP_SYS_PTRACE).",
    "Run it with all capabilities; under a runtime without them cni-reaper frees nothing.",
)
LIFELESS = Kind(
    NODE,
    "lifeless",
    NOTE,
    "Network namespaces in which no process runs, and whose containers no runtime names, hold addresses: {count}, "
    "the first is {address}, in {netns}.",
    lifeless.ADVICE[:1].upper() + lifeless.ADVICE[1:] + ".",
)
CACHE_WHOLE = Kind(NODE, "cache-whole", OK, "No file of libcni's cache, of flannel or of multus is broken.")
CACHE_BROKEN = Kind(
    NODE,
    "cache-broken",
    WARNING,
    "Broken files keep pods from ending: {files}",
    broken_files.NEXT,
    "They are empty or not valid JSON: how many, since when, which DELs they stop, and the first: "
    "[operations.md](operations.md#pods-hang-in-terminating-after-a-power-cut).",
)
CACHE_BROKEN_STAYS = Kind(
    NODE,
    "cache-broken-stays",
    WARNING,
    "Broken files keep pods from ending: {files}",
    "{why}",
    'An option of the entry keeps them: `dryRun`, `"cache": false`, or a wrong option. Take it out, or correct it.',
)
CACHE_UNREADABLE = Kind(
    NODE,
    "cache-unreadable",
    WARNING,
    "Whether files are broken that keep pods from ending: {trouble}.",
    "Run it as root on the host, and look at the file system.",
)
PUBLISHED_TO_ANOTHER = Kind(
    NODE,
    "published-to-another",
    ERROR,
    "{what}.",
    "{advice}",
    "Published ports (portmap, iptables or nftables) lead to an address that another pod has now: traffic for the wrong pod. "
    "Something freed the address and left the rules: a hand, a script, an older version of cni-reaper. The finding has "
    "the command: portmap's DEL for the dead container. No call of cni-reaper does it, since the address has another owner.",
)
PUBLISHED_TO_NONE = Kind(
    NODE,
    "published-to-none",
    WARNING,
    "{what}.",
    "{advice}",
    "The same, and no pod has the address now; the next pod that gets it gets the port too.",
)
MORE_PUBLISHED_TO_ANOTHER = Kind(
    NODE,
    "published-to-another",
    ERROR,
    "Ports of {count} more containers lead to addresses that these do not have.",
    "`cni-reaper audit` names them all.",
)
MORE_PUBLISHED_TO_NONE = Kind(
    NODE,
    "published-to-none",
    WARNING,
    "Ports of {count} more containers lead to addresses that these do not have.",
    "`cni-reaper audit` names them all.",
)
PUBLISHED_UNSEEN = Kind(
    NODE,
    "published-unseen",
    NOTE,
    "Which ports are published cannot be seen: {trouble}.",
    more="iptables or nft cannot be asked; the finding says why. Run it as root.",
)

KINDS = tuple(one for one in list(globals().values()) if isinstance(one, Kind))
"""All of them, in the order of docs/doctor.md."""
