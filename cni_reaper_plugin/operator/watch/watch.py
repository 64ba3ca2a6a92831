"""`cni-reaper install --watch`: stays, and puts the entry back whenever a platform has rewritten the conflist; mends, too.

Watches are set before each look (changes), so nothing comes in between. A look every 30 s besides catches what inotify does not
tell.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.install import install, snapshot, targets
from cni_reaper_plugin.operator.install.install import Wanted
from cni_reaper_plugin.operator.mend.each_minute import Mender
from cni_reaper_plugin.operator.watch.node_changes import Changes, directories
from cni_reaper_plugin.system import mountinfo

POLL_S = 30.0
WITHOUT_INOTIFY_S = 1.0
PATIENCE_S = 2.0  # with a file that is half written, before it is complained of
_AGAIN_S = 0.1
REACTION_S = 1.0  # who takes our entry out sooner than that after we have put it in does so because we have
ROUNDS = 5  # so often, one after the other, is a fight
LONGEST_PAUSE_S = 60.0
SETTLED_S = 1.0
LONGEST_SETTLING_S = 20.0  # with somebody who writes without end

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.operator.install.snapshot import Given


def run(given: Given, wanted: Wanted, at_end: Callable[[], int] | None = None) -> int:
    """Install, and again after each change, until SIGTERM or SIGINT. Returns the exit code, that of `at_end` if there is one.

    1 when what is mounted on a directory was replaced: in a container nothing but a new start shows what is there now.
    """
    with _Ended() as ended:
        say(f"watching {', '.join(directories(given))}")
        look, mender, mounted = _Look(given, wanted), Mender(given.conf_dirs, say), _mounted()
        while not ended.now:
            with Changes(given) as events:
                now = _mounted()
                for directory in (*directories(given), *given.bin_dirs):
                    if now.get(directory) != mounted.get(directory):
                        say(
                            f"{directory}: what was mounted here has been moved or removed: ending, "
                            "to be started anew with what is"
                        )
                        return 1
                wait_s = look.once(events.are_told)
                events.wait(min(wait_s, mender.once()), ended.fd)
    say("ended by a signal; %s" % ("uninstalling" if at_end else "everything stays as it is"))
    return at_end() if at_end else 0


def settle(given: Given, wanted: Wanted) -> int:
    """Install, and again after each change, until nothing has changed for a second. Returns the exit code of the last time.

    For who is told of a change only once and of nothing while we run, as a systemd service is by its path unit: a platform writes
    several files one after the other. A node without a conflist is not set up yet: nothing is put there, and 0 returned.
    """
    end = time.monotonic() + LONGEST_SETTLING_S
    with _Ended() as ended:
        while True:
            with Changes(given) as events:
                code = install.run(given, wanted) if _is_set_up(given) else 0
                if not events.wait(SETTLED_S, ended.fd) or time.monotonic() > end:
                    return code


def _is_set_up(given: Given) -> bool:
    wished = targets.find(snapshot.take(given))
    if not wished.found and not wished.problems:
        say("there is no conflist yet: nothing to do")
        return False
    return True


def say(text: str) -> None:
    """Write a line to stderr, which is the journal or the container's log."""
    with suppress(OSError):
        sys.stderr.write(f"cni-reaper install: {text}\n")
        sys.stderr.flush()


class _Ended:
    """Notes SIGTERM and SIGINT, so that what is under way is finished. `fd` becomes readable then."""

    def __init__(self) -> None:
        self.now = False
        self.fd, self._told = os.pipe()
        os.set_blocking(self._told, False)

    def __enter__(self) -> _Ended:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        return self

    def _note(self, *_: object) -> None:
        self.now = True
        with suppress(OSError):
            os.write(self._told, b".")

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._told)


class _Look:
    """Puts in place what is not, says what it does, and knows what has been said and done before."""

    def __init__(self, given: Given, wanted: Wanted) -> None:
        self._given, self._wanted = given, wanted
        self._fight = _Fight()
        self._since: dict[str, float] = {}
        self._said: set[str] = set()
        self._is_first = self._renew = True
        self._poll_s = POLL_S

    def once(self, are_told: bool) -> float:
        """Look once. are_told: will changes be told? Returns how many seconds to wait for one at most."""
        self._poll_s = POLL_S if are_told else WITHOUT_INOTIFY_S
        pause_s = self._fight.pause_s()
        wanted = replace(self._wanted, conflists=False) if pause_s > 0 else self._wanted
        outcome = install.apply(self._given, wanted, renew=self._renew)
        for line in [*outcome.done, *(f"{one}: our entry is in it already" for one in outcome.there if self._is_first)]:
            say(line)
        self._is_first = False
        self._renew &= not outcome.is_placed
        if not pause_s:
            self._fight.looked(outcome.put)
        self._complain(
            [
                *outcome.problems,
                *outcome.notes,
                *(f"{one}: there is no conflist yet: waiting for one" for one in outcome.waiting),
            ]
        )
        if not are_told:
            self._complain_of_inotify()
        return min(self._poll_s, self._fight.pause_s() or self._poll_s)

    def _complain(self, problems: list[str]) -> None:
        """Say each problem once, when it has stayed for a moment: a file may be half written."""
        now = time.monotonic()
        self._since = {one: self._since.get(one, now) for one in problems}
        self._said &= set(problems)
        for one, since in self._since.items():
            if one in self._said:
                continue
            if now - since < PATIENCE_S:
                self._poll_s = min(self._poll_s, _AGAIN_S)
                continue
            say(one)
            self._said.add(one)

    def _complain_of_inotify(self) -> None:
        if not self._inotify_said:
            say("the kernel gives no inotify (fs.inotify.max_user_instances, max_user_watches): looking each second instead")
        self._inotify_said = True

    _inotify_said = False


class _Fight:
    """Somebody may take our entry out because we put it in, as Cilium does (cni.exclusive): who hurries on, hurries for ever."""

    def __init__(self) -> None:
        self._rounds = 0
        self._put_at = -LONGEST_PAUSE_S
        self._is_said = False

    def pause_s(self) -> float:
        """Return for how many seconds not to look now; 0 but in a fight."""
        return max(0.0, self._put_at + self._length_s() - time.monotonic())

    def looked(self, put: list[str]) -> None:
        """Take note of a look, and of the conflists that our entry was put into in it."""
        now = time.monotonic()
        if not put:
            if self._is_said and now - self._put_at > self._length_s() + REACTION_S:
                say("our entry is left alone now")
                self._rounds, self._is_said = 0, False
            return
        self._rounds = self._rounds + 1 if now - self._put_at < self._length_s() + REACTION_S else 0
        self._put_at = now
        if self._rounds >= ROUNDS and not self._is_said:
            self._is_said = True
            say(
                "%s: somebody takes our entry out each time we put it in (Cilium does, unless cni.exclusive is false): "
                "from now on it is put in at longer intervals, of up to %d s" % (", ".join(put), LONGEST_PAUSE_S)
            )

    def _length_s(self) -> float:
        return min(LONGEST_PAUSE_S, 2.0 ** (self._rounds - ROUNDS)) if self._rounds >= ROUNDS else 0.0


def _mounted() -> dict[str, str]:
    """Return the directory that is mounted, by mount point. proc(5), mountinfo: one that was unlinked is marked as such."""
    return {mountinfo.point(line): " ".join(line.split(" ")[2:4]) for line in mountinfo.read().splitlines()}
