"""What uninstall takes back and no install puts there: changes that can only be undone."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.operator.conflists import converted
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.install import state_removal


@dataclass(frozen=True)
class Conversion:
    """A `.conf` of one plugin that 0.1.0 has made a list of. path: where it is set aside. Raises outcome.TROUBLE."""

    path: str

    @property
    def _original(self) -> str:
        return self.path.removesuffix(converted.BEFORE)

    def show_undo(self) -> list[str]:
        """Say what would come back."""
        return [f"would put {self._original} back in the place of {converted.list_of(self._original)}"]

    def undo(self) -> list[str]:
        """Put it back."""
        made = converted.list_of(self._original)
        if not os.path.lexists(made) and not os.path.lexists(self._original):
            return [f"{self.path}: left there, since {made}, which was made of it, is gone: rename it, or remove it"]
        if converted.revert(self.path):
            return [f"{self._original}: put back as it was, in the place of {made}"]
        raise ConflistError(f"{made} was changed since it was made of this file: look which of them is to stay.")


@dataclass(frozen=True)
class Records:
    """The records of attachments below a stateDir. path: that directory. Raises OSError."""

    path: str

    def show_undo(self) -> list[str]:
        """Say that they would go."""
        return [f"would remove the records in {self.path}"] if records.networks(self.path) else []

    def undo(self) -> list[str]:
        """Remove them."""
        count = sum(state_removal.remove_records(self.path, network) for network in records.networks(self.path))
        return [f"{count} records: removed"] if count else []
