"""The one door through which the runtime comes in. Behind it, VERSION has a way of its own, as it needs so few modules."""

import posix


def run(environment: dict[bytes, bytes]) -> int:
    """Answer one call of the runtime on stdout and return the exit code: 0, or 1 with an error object printed.

    environment: the process's, with CNI_COMMAND in it. Raises OSError when stdout cannot be written.
    """
    if environment[b"CNI_COMMAND"] == b"VERSION":
        from cni_reaper_plugin.plugin import version

        code, answer = version.answer()
    else:
        from cni_reaper_plugin.plugin import verbs

        code, answer = verbs.answer(environment)
    while answer:
        answer = answer[posix.write(1, answer) :]
    return code
