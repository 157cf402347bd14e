"""Approving a car: what the code must look like, what is shown before the answer."""

import re

from tui.facts import DeviceFacts
from tui.view_models.panel import Line, dim, labelled, line, strong, warn
from tui.view_models.state import Moment
from tui.view_models.text import MICROSECONDS_PER_SECOND, clean, duration

#: What people type: letters and digits, with or without the dash.
_CODE = re.compile(r"[A-Z0-9]{4}-?[A-Z0-9]{4}")
LABEL_CHARACTERS_MAX = 60


def normal_code(typed: str) -> str | None:
    """Return the code as the pool knows it ("KXRT-4927"), or None when it cannot be one."""
    text = re.sub(r"[\s–—]", "", typed.upper())
    if not _CODE.fullmatch(text):
        return None
    bare = text.replace("-", "")
    return f"{bare[:4]}-{bare[4:]}"


def fingerprint_text(fingerprint: str) -> str:
    """Write a fingerprint in groups of four, as the car shows it."""
    text = clean(fingerprint, characters_max=64)
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def device_lines(device: DeviceFacts, at: Moment) -> tuple[Line, ...]:
    """Return what an owner must see before answering."""
    left_s = (device.expires_at_us - at.now_us) / MICROSECONDS_PER_SECOND
    remaining = f"for another {duration(left_s)}" if left_s > 0 else "no longer: start pairing again"
    return (
        labelled("Code", strong(clean(device.user_code, characters_max=16)), dim(f", valid {remaining}")),
        labelled("Key", strong(fingerprint_text(device.key_fingerprint))),
        labelled("Agent", clean(device.agent_version, characters_max=40) or "unknown version"),
        line(warn("Approve only if the car shows the same key.")),
    )
