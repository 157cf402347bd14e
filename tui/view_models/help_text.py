"""The help: what the panel under the cursor is for, what it says in full, and the keys."""

from collections.abc import Iterable
from dataclasses import dataclass

from tui.view_models.panel import Line, PanelView, dim, line, strong

#: Names of keys as people know them.
_KEY_NAMES = {"question_mark": "?", "escape": "esc", "space": "space"}
_KEY_WIDTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHelp:
    """One key and what it does."""

    keys: str
    """Comma-separated, as bound now."""
    explained: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpView:
    """What the help screen says, in sections of title and lines."""

    sections: tuple[tuple[str, tuple[Line, ...]], ...]


def key_names(keys: str) -> str:
    """Return bound keys as people write them: `?, f1`."""
    return ", ".join(_KEY_NAMES.get(key.strip(), key.strip()) for key in keys.split(","))


def help_view(*, panel: PanelView | None, about: str, keys: Iterable[KeyHelp]) -> HelpView:
    """Return the help for a panel (or for none) and for the keys in force."""
    sections: list[tuple[str, tuple[Line, ...]]] = []
    if about:
        sections.append((panel.title if panel else "About", (line(about),)))
    if panel is not None and panel.lines:
        sections.append(("It says now", panel.lines))
    rows = tuple(line(strong(f"{key_names(entry.keys):<{_KEY_WIDTH}}"), entry.explained) for entry in keys)
    sections.append(("Keys", (*rows, line(dim("tab moves between panels; esc closes this.")))))
    return HelpView(sections=tuple(sections))
