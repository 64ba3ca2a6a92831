"""Run a command under the container engines' default seccomp profile: `python -m tests.packaging.seccomp PROFILE COMMAND…`.

The profile as a container without any capability gets it: what names a capability that it would need is left out.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pyseccomp  # type: ignore[import-untyped]  # it ships no types

OPERATORS = {
    "SCMP_CMP_NE": pyseccomp.NE,
    "SCMP_CMP_LT": pyseccomp.LT,
    "SCMP_CMP_LE": pyseccomp.LE,
    "SCMP_CMP_EQ": pyseccomp.EQ,
    "SCMP_CMP_GE": pyseccomp.GE,
    "SCMP_CMP_GT": pyseccomp.GT,
    "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ,
}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def applies(rule: dict[str, Any]) -> bool:
    """Tell whether a rule of the profile is for a container without capabilities on this machine."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("caps") or ARCHITECTURE in excludes.get("arches", ()):
        return False
    return ARCHITECTURE in includes.get("arches", (ARCHITECTURE,)) and rule["action"] == "SCMP_ACT_ALLOW"


def confine(profile: Path) -> None:
    """Put this process, and what it executes, under the profile. Raises OSError."""
    whole = json.loads(profile.read_bytes())
    confined = pyseccomp.SyscallFilter(pyseccomp.ERRNO(whole.get("defaultErrnoRet", 1)))
    for rule in filter(applies, whole["syscalls"]):
        arguments = [
            pyseccomp.Arg(one["index"], OPERATORS[one["op"]], one["value"], one.get("valueTwo", 0))
            for one in rule.get("args") or ()
        ]
        for name in rule["names"]:
            try:
                confined.add_rule(pyseccomp.ALLOW, name, *arguments)
            except (OSError, RuntimeError):
                continue  # this libseccomp, or this architecture, has no such call
    confined.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
