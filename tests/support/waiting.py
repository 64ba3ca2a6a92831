"""Wait until something is so, without a time that has to be hit."""

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.commands import HANG_S


def until(condition: Callable[[], Any], what: str, limit_s: float = HANG_S) -> Any:
    """Wait until a condition holds and return what it returned; fail after a limit that is never near."""
    end = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"{what}: not so after {limit_s} s"
        threading.Event().wait(0.002)
    return answer
