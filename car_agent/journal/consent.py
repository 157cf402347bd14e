"""The owner's consent and pause, in a small file of their own.

Apart from the journal on purpose: whatever happens to the journal, consent is what the owner last said. A
file that cannot be read counts as no consent. Opting out always wins: if it cannot be written, the old
consent is removed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from car_agent.core.policy import OwnerSwitches
from car_agent.journal.durable import remove_durably, write_durably

_FORMAT: Final = 1
#: Of the terms that the owner agreed to; a new version needs a new opt-in.
TERMS_VERSION: Final = 1
_BYTES_MAX: Final = 4096
_FIELDS: Final = {
    "format": int,
    "terms_version": int,
    "opted_in": bool,
    "opt_in_changed_us": int,
    "paused": bool,
    "pause_until_us": int,
}


@dataclass(frozen=True, slots=True)
class ConsentFile:
    """The file that holds the switches."""

    path: Path

    def read(self) -> OwnerSwitches:
        """Return the switches; what cannot be read is no consent."""
        try:
            with self.path.open("rb") as file:
                content = json.loads(file.read(_BYTES_MAX))
            return _switches(content)
        except FileNotFoundError:
            return OwnerSwitches()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return OwnerSwitches(consent_readable=False)

    def opt_in(self, *, now_us: int) -> OwnerSwitches:
        """Write the owner's consent. A pause that is set stays set.

        Raises:
            OSError: when it cannot be written; it then does not hold.
        """
        switches = replace(self.read(), opted_in=True, opt_in_changed_us=now_us, consent_readable=True)
        self._write(switches)
        return switches

    def opt_out(self, *, now_us: int) -> OwnerSwitches:
        """Write the end of the consent, by any means.

        Raises:
            OSError: when neither a refusal can be written nor the consent be removed.
        """
        switches = replace(self.read(), opted_in=False, opt_in_changed_us=now_us, consent_readable=True)
        try:
            self._write(switches)
        except OSError:
            # A full disk must not keep a consent alive: without a file there is none.
            remove_durably(self.path)
        return switches

    def pause(self, *, until_us: int) -> OwnerSwitches:
        """Write a pause; 0 means until resumed.

        Raises:
            OSError: when it cannot be written.
        """
        return self._change(paused=True, pause_until_us=until_us)

    def resume(self) -> OwnerSwitches:
        """Write the end of a pause.

        Raises:
            OSError: when it cannot be written.
        """
        return self._change(paused=False, pause_until_us=0)

    def _change(self, *, paused: bool, pause_until_us: int) -> OwnerSwitches:
        before = self.read()
        if not before.consent_readable:
            # Writing over a damaged record must not turn it into a readable consent.
            before = replace(OwnerSwitches(), consent_readable=True)
        switches = replace(before, paused=paused, pause_until_us=pause_until_us)
        self._write(switches)
        return switches

    def _write(self, switches: OwnerSwitches) -> None:
        content = {
            "format": _FORMAT,
            "terms_version": TERMS_VERSION,
            "opted_in": switches.opted_in,
            "opt_in_changed_us": switches.opt_in_changed_us,
            "paused": switches.paused,
            "pause_until_us": switches.pause_until_us,
        }
        write_durably(self.path, json.dumps(content, indent=1).encode() + b"\n")


def _switches(content: Any) -> OwnerSwitches:
    """Read the fields strictly.

    Raises:
        ValueError: when anything is not as we would have written it.
    """
    if not isinstance(content, dict) or content.keys() != _FIELDS.keys():
        raise ValueError("not the fields of a consent")
    for name, kind in _FIELDS.items():
        if type(content[name]) is not kind:
            raise ValueError(f"{name} is not {kind.__name__}")
    if content["format"] != _FORMAT or content["terms_version"] != TERMS_VERSION:
        raise ValueError("another format, or other terms")
    return OwnerSwitches(
        opted_in=content["opted_in"],
        opt_in_changed_us=content["opt_in_changed_us"],
        paused=content["paused"],
        pause_until_us=content["pause_until_us"],
    )
