"""^C and SIGTERM while something is being removed: what is removed is reported before the process ends."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noted(stop: Callable[[], object]) -> Iterator[None]:
    """Note SIGINT and SIGTERM instead of being ended by them. stop: called with each."""
    old = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
