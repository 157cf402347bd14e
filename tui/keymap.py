"""The keys, by id, and the file in which a person may change them.

    # $XDG_CONFIG_HOME/chargepool/keymap.toml
    [keys]
    pause = "space,f8"
    vehicles = "f2"

Every binding of the dashboard has an id from `ACTIONS`; screens and docs take keys and words from there, so
the footer, the help and the documentation cannot disagree.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing a key can do."""

    id: str
    keys: str
    """Comma-separated names of keys, as Textual writes them."""
    action: str
    label: str
    """One word for the footer."""
    explained: str
    """One sentence for the help."""
    show: bool = True

    def binding(self) -> Binding:
        """Return the binding that the screens declare."""
        return Binding(self.keys, self.action, self.label, show=self.show, id=self.id, tooltip=self.explained)


ACTIONS = {
    action.id: action
    for action in (
        Action(
            id="pause",
            keys="space",
            action="app.toggle_pause",
            label="Pause",
            explained="Pause or resume at once; works without the pool.",
        ),
        Action(
            id="opt-in",
            keys="o",
            action="app.toggle_opt_in",
            label="On/off",
            explained="Opt in (asked once) or out (at once).",
        ),
        Action(
            id="vehicles",
            keys="v",
            action="app.go('vehicles')",
            label="Cars",
            explained="All your cars at the pool.",
        ),
        Action(
            id="events",
            keys="e",
            action="app.go('events')",
            label="Events",
            explained="What happened, newest first.",
        ),
        Action(
            id="statement",
            keys="s",
            action="app.go('statement')",
            label="Money",
            explained="Receipts (each checked here) and statements.",
        ),
        Action(
            id="pair",
            keys="p",
            action="app.pair",
            label="Pair",
            explained="Approve a car by the code that it shows.",
        ),
        Action(
            id="bank",
            keys="b",
            action="app.bank",
            label="Bank",
            explained="Where your money is sent, and from what amount.",
            show=False,
        ),
        Action(
            id="refresh",
            keys="r",
            action="app.refresh",
            label="Refresh",
            explained="Ask the agent and the pool again now.",
            show=False,
        ),
        Action(
            id="help",
            keys="question_mark,f1",
            action="app.help",
            label="Help",
            explained="What the panel under the cursor says, and all keys.",
        ),
        Action(id="quit", keys="q", action="app.quit", label="Quit", explained="Leave; the agent goes on."),
        Action(
            id="back",
            keys="escape",
            action="screen.back",
            label="Back",
            explained="Back to the first screen.",
        ),
        Action(
            id="older",
            keys="n",
            action="screen.older",
            label="Older",
            explained="Load older receipts, or the month before.",
        ),
        Action(
            id="newer",
            keys="N",
            action="screen.newer",
            label="Newer",
            explained="The month after.",
            show=False,
        ),
        Action(
            id="save",
            keys="w",
            action="screen.save",
            label="Save CSV",
            explained="Write the month's statement as CSV into the working directory.",
        ),
    )
}


class KeymapError(Exception):
    """The keymap file is not usable; the text says which line and what is allowed."""


def bindings(*action_ids: str) -> list[BindingType]:
    """Return the bindings of these actions, for a screen's BINDINGS."""
    return [ACTIONS[action_id].binding() for action_id in action_ids]


def default_path(environ: Mapping[str, str]) -> Path:
    """Return where the keymap is looked for."""
    base = environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config"
    return root / "chargepool" / "keymap.toml"


def load(path: Path, *, required: bool) -> dict[str, str]:
    """Return action id -> keys from a keymap file; an absent file that is not required changes nothing.

    Raises:
        KeymapError: the file cannot be read, names an unknown action, or gives one key to two actions.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if required:
            raise KeymapError(f"{path} does not exist.") from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeymapError(f"{path} cannot be read: {error}") from error
    keys = content.get("keys", {})
    if set(content) - {"keys"} or not isinstance(keys, dict):
        raise KeymapError(f"{path} holds one table, [keys], and nothing else.")
    keymap: dict[str, str] = {}
    for action_id, value in keys.items():
        if action_id not in ACTIONS:
            raise KeymapError(f"{path} names {action_id!r}. Known are: {', '.join(sorted(ACTIONS))}.")
        if not isinstance(value, str) or not all(key.strip() for key in value.split(",")):
            raise KeymapError(f'{path}: {action_id} must be keys as text, for example "space,f8".')
        keymap[action_id] = ",".join(key.strip() for key in value.split(","))
    _require_distinct(path, keymap)
    return keymap


def _require_distinct(path: Path, keymap: Mapping[str, str]) -> None:
    owner_of: dict[str, str] = {}
    for action_id, action in ACTIONS.items():
        for key in keymap.get(action_id, action.keys).split(","):
            if key in owner_of:
                raise KeymapError(f"{path} gives {key!r} to both {owner_of[key]} and {action_id}.")
            owner_of[key] = action_id
