"""Where libcni finds a plugin's executable."""

import os
import stat

from cni_reaper_plugin.attachment import valid_name


def locate(kind: str, bin_dirs: list[str]) -> str:
    """Return the path at which libcni finds a plugin: the first regular file of that name; "" when there is none."""
    for directory in bin_dirs if valid_name(kind) else ():
        path = f"{directory}/{kind}"
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return path
        except OSError:
            continue
    return ""
