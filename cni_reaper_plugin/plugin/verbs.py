"""One function a verb, VERSION excepted (version.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin import options
from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.cni_versions import LATEST_VERSION
from cni_reaper_plugin.event_log import DEFECT, Log
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, Call
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.plugin import attachment_records, result
from cni_reaper_plugin.plugin.errors import (
    BAD_ENVIRONMENT,
    FOREIGN_RESERVATION,
    INTERNAL,
    INVALID_CONFIG,
    INVALID_NETNS,
    NO_RESERVATION,
    UNAVAILABLE,
    CNIError,
)
from cni_reaper_plugin.plugin.request import REQUIRED, Request, read_stdin, variable
from cni_reaper_plugin.reaper import sweep
from cni_reaper_plugin.system import boot, files
from cni_reaper_plugin.system.clock import TICKS_A_SECOND, Budget, ticks

if TYPE_CHECKING:
    from cni_reaper_plugin.model import Netns
    from cni_reaper_plugin.options import Settings
    from cni_reaper_plugin.plugin.request import Environment

MEND_WAIT_TICKS = 60 * TICKS_A_SECOND  # see mend.when, which sets the time


def answer(environment: Environment) -> tuple[int, bytes]:
    """Answer one call of the runtime that is not VERSION: the exit code, 0 or 1, and what is printed, with 1 an error object.

    environment: the process's, with CNI_COMMAND in it. Reads stdin to its end.
    """
    version = LATEST_VERSION
    try:
        verb = variable(environment, "CNI_COMMAND")
        if verb not in REQUIRED:
            raise CNIError(BAD_ENVIRONMENT, "unknown CNI_COMMAND: %s" % verb)
        request = Request(verb, environment)
        document = read_stdin()
        try:
            request.configure(document)
        finally:
            version = request.cni_version
        return 0, VERBS[verb](request, environment)
    except CNIError as e:
        return 1, orjson.dumps(e.as_object(version))
    except Exception as e:  # noqa: BLE001  a traceback is nothing that a runtime can read
        return 1, orjson.dumps(CNIError(INTERNAL, DEFECT % e).as_object(version))


def _add(request: Request, environment: Environment) -> bytes:
    """ADD: record the attachment, then one sweep. Whatever goes wrong in that is logged; the answer is the chain's result."""
    answer = result.of_add(request)
    call = Call("ADD", _attachment(request), request.netns, _identified(request.netns))
    call.environment = environment
    if call.netns is not None and not _may_be_own(environment) and _is_ours(call.netns):
        raise CNIError(INVALID_NETNS, "plugin's netns and netns from CNI_NETNS should not be the same", request.netns)
    call.at_head = result.is_head(request)
    settings, problems, log = _options(request)
    budget = _budget(settings)
    try:
        attachment_records.record(call, request.pod(), settings, log)
        if problems:
            log.warning("bad-options", network=request.name, reason="nothing is reaped: " + "; ".join(problems))
        else:
            _reap_and_mend(call, settings, log, budget)
    except Exception as e:  # noqa: BLE001  the reaper is never the cause of a failed pod
        log.error("sweep-skipped", network=request.name, reason=DEFECT % e)
    return answer


def _attachment(request: Request) -> Attachment:
    return Attachment(request.name, request.container_id, request.ifname)


def _identified(path: str) -> Netns | None:
    """Return the identity of CNI_NETNS, None where it is gone or no namespace (which is for the other plugins to say)."""
    if not path:
        return None
    try:
        return netns.identify_fully(path)
    except (OSError, ValueError):
        return None


def _is_ours(found: Netns) -> bool:
    """Tell whether a netns is this process's own; one that cannot be told is another."""
    try:
        return found.ino == netns.identify_ino(netns.OWN)
    except OSError:
        return False


def _may_be_own(environment: Environment) -> bool:
    """Tell whether CNI_NETNS may be our own netns (skel since v1.2.0)."""
    return variable(environment, "CNI_NETNS_OVERRIDE").lower() in ("1", "true")


def _options(request: Request) -> tuple[Settings, list[str], Log]:
    settings, problems = options.read(request.config, request.name)
    return settings, problems, Log(settings.log_level, settings.log_file)


def _budget(settings: Settings) -> Budget:
    """Begin the time of a call, before the first thing that it may have to wait for."""
    return Budget(sweep.WALL_LIMIT_S, settings.budget_ms)


def _reap_and_mend(call: Call, settings: Settings, log: Log, budget: Budget) -> None:
    """Sweep if this verb is to, and look for broken files in libcni's cache if it is time: a healthy ADD asks nothing."""
    is_time = call.verb in settings.reap_on and _sweep(call, settings, log, budget)
    if settings.cache and (is_time or call.verb != "ADD"):
        due = _mend_due(settings)
        if is_time or _is_due(due):
            _mend(call, settings, log, budget, due)


def _sweep(call: Call, settings: Settings, log: Log, budget: Budget) -> bool:
    """Sweep, as far as this call's own netns or an earlier ADD has proven our view.

    An ADD in a view that is not proven yet checks it in any case, for the verbs that cannot. Returns whether now is the time to
    look for broken files in libcni's cache as well: after the boot's first ADD, and where something was freed.
    """
    is_first = False
    try:
        boot_id = boot.boot_id()
        call.view = proven_views.own_view()
        if call.verb == "ADD" and call.view not in proven_views.proven(boot_id):
            is_first = True
            _check_self(call, log)
    except OSError as e:
        log.warning("blind", reason="our own view cannot be told: %s" % e)
        return False

    def allow() -> None:
        """Say what this call may reap; asked when something is to be."""
        if call.verb != "ADD":
            call.may_reap = proven_views.allowance(boot_id, call.view)
            if call.verb == "DEL" and call.view not in proven_views.proven(boot_id):
                from cni_reaper_plugin.plugin import first_del

                first_del.look(call, boot_id, log)
        elif not call.self_checked:
            _check_self(call, log)

    results = sweep.run(call, settings, log, allow, budget)
    return is_first or any(result.freed for result in results)


def _mend(call: Call, settings: Settings, log: Log, budget: Budget, due: str) -> None:
    """Look for broken files in libcni's cache. Raises nothing."""
    try:
        from cni_reaper_plugin.mend import when

        when.after(call, settings, log, due, budget.wall_left_s())
    except Exception as e:  # noqa: BLE001  what keeps other pods from ending is not to fail this one
        log.error("cache-skipped", reason=DEFECT % e)


def _mend_due(settings: Settings) -> str:
    """Return the file of /run/cni-reaper that says when to look next: entries with other caches take no turn of each other."""
    if settings.cache_dirs == options.CACHE_DIRS:
        return "mend.due"
    from cni_reaper_plugin.host_local import store_key

    return store_key.key(":".join(settings.cache_dirs), "mend") + ".due"


def _is_due(name: str) -> bool:
    """Tell whether the last look is a minute ago, by the tick that it has noted in this file for the next one."""
    try:
        tick = int(files.read_small("%s/%s" % (proven_views.RUN_DIR, name), None, 32))
    except (OSError, ValueError):
        return True
    return not 0 < tick - ticks() <= MEND_WAIT_TICKS


def _check_self(call: Call, log: Log) -> None:
    """Do the self-check: if this call's own netns is among the visible ones, all may be reaped, and the view is proven."""
    from cni_reaper_plugin.namespaces import visible

    try:
        call.self_checked = call.netns is not None and visible.sees(call.netns_path, call.netns)
    except OSError as e:
        log.warning("blind", reason="visible netns cannot be read: %s" % e)
        return
    if call.self_checked:
        call.may_reap = ALL
        try:
            if call.view not in proven_views.proven(boot.boot_id()):
                proven_views.prove(boot.boot_id(), call.view)
        except OSError as e:
            log.debug("view-not-noted", reason=str(e))


def _delete(request: Request, environment: Environment) -> bytes:
    """DEL: mark the record, then one sweep, which also releases what the chain has left of this attachment. Never fails."""
    settings, problems, log = _options(request)
    if request.problem:
        log.warning("del-ignored", container=request.container_id, ifname=request.ifname, reason=request.problem)
        return b""
    call = Call("DEL", _attachment(request), request.netns, _identified(request.netns))
    call.environment = environment
    call.add_failed = "prevResult" not in request.config
    budget = _budget(settings)
    try:
        attachment_records.mark_deleted(call, settings, log)
        if problems:
            log.warning("bad-options", network=request.name, reason="nothing is reaped: " + "; ".join(problems))
        else:
            _reap_and_mend(call, settings, log, budget)
    except Exception as e:  # noqa: BLE001  a failing DEL would keep the other plugins from releasing
        log.error("sweep-skipped", network=request.name, reason=DEFECT % e)
    return b""


def _check(request: Request, _: Environment) -> bytes:
    """CHECK: the addresses of prevResult are reserved for this attachment, or for one that has no netns. Writes nothing."""
    previous = request.config.get("prevResult")
    if not isinstance(previous, dict):
        raise CNIError(INVALID_CONFIG, "CHECK needs prevResult")
    settings, problems, log = _options(request)
    if problems:
        log.warning("bad-options", network=request.name, reason="; ".join(problems))
    attachment = _attachment(request)
    missing = []
    try:
        with store.Network(settings.data_dir, request.name) as directory:
            for address in _addresses(previous):
                reservation = directory.read(address)
                if reservation is None:
                    missing.append(address)
                elif reservation.container_id and not attachment.owns(request.name, reservation.container_id, reservation.ifname):
                    from cni_reaper_plugin.plugin import other_owner

                    if other_owner.is_stale(directory, reservation, attachment, _identified(request.netns), settings, log):
                        continue
                    owner = "%s %s" % (reservation.container_id, reservation.ifname)
                    raise CNIError(
                        FOREIGN_RESERVATION,
                        "%s of %s %s is reserved for %s" % (address, request.container_id, request.ifname, owner),
                    )
            if missing and directory.has_allocated():
                raise CNIError(
                    NO_RESERVATION,
                    "%s of %s %s has no reservation" % (" and ".join(missing), request.container_id, request.ifname),
                )
    except FileNotFoundError:
        return b""  # another IPAM than host-local
    except OSError as e:
        log.warning("check-skipped", network=request.name, reason=str(e))
    return b""


def _addresses(previous: dict[str, object]) -> list[str]:
    """Return the addresses of a result's `ips` (0.3.0 and later), without their prefix lengths."""
    ips = previous.get("ips")
    listed = [one.get("address") for one in ips if isinstance(one, dict)] if isinstance(ips, list) else []
    names = [one.partition("/")[0] for one in listed if isinstance(one, str)]
    return [name for name in names if store.is_address_like(name)]


def _gc(request: Request, environment: Environment) -> bytes:
    """GC: the list of valid attachments keeps; without one (key missing or null) there is only the sweep."""
    settings, problems, log = _options(request)
    valid = _valid_attachments(request.config, problems)
    if problems:
        raise CNIError(INVALID_CONFIG, "; ".join(problems))
    call = Call("GC")
    call.environment = environment
    call.valid, call.valid_network = valid, request.name
    budget = _budget(settings)
    try:
        if valid is not None:
            attachment_records.mark_unlisted(request.name, valid, settings, log)
        _reap_and_mend(call, settings, log, budget)
    except Exception as e:  # noqa: BLE001  what could not be reaped stays for the next call
        log.error("sweep-skipped", network=request.name, reason=DEFECT % e)
    return b""


def _valid_attachments(config: dict[str, object], problems: list[str]) -> set[tuple[str, str]] | None:
    """Return GC's list as (container ID, ifname), None where the key is missing or null; what is wrong goes to `problems`."""
    key = "cni.dev/valid-attachments"
    if config.get(key) is None:
        key = "cni.dev/attachments"  # the name in spec 1.1.0; libcni >= 1.2.3 sends both
    listed = config.get(key)
    if listed is None:
        return None
    valid = set()
    for one in listed if isinstance(listed, list) else [None]:
        container_id, ifname = (one.get("containerID"), one.get("ifname")) if isinstance(one, dict) else (None, None)
        if isinstance(container_id, str) and isinstance(ifname, str):
            valid.add((container_id, ifname))
        else:
            problems.append("%s must be a list of objects with containerID and ifname" % key)
            break
    return valid


def _status(request: Request, environment: Environment) -> bytes:
    """STATUS: the store can be read. A full pool or a wrong option is no reason to call the node not ready."""
    settings, problems, log = _options(request)
    try:
        store.usable(settings.data_dir)
    except OSError as e:
        raise CNIError(UNAVAILABLE, "host-local's store cannot be read; check dataDir %s" % settings.data_dir, str(e)) from e
    if problems:
        log.warning("bad-options", network=request.name, reason="; ".join(problems))
    else:
        call = Call("STATUS")
        call.environment = environment
        _reap_and_mend(call, settings, log, _budget(settings))
    return b""


VERBS = {"ADD": _add, "DEL": _delete, "CHECK": _check, "GC": _gc, "STATUS": _status}
