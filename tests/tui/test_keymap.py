"""Keys can be changed in a file, which is refused when it cannot mean what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tui import keymap
from tui.view_models.help_text import key_names


def load(tmp_path: Path, content: str) -> dict[str, str]:
    path = tmp_path / "keymap.toml"
    path.write_text(content, encoding="utf-8")
    return keymap.load(path, required=True)


def test_an_absent_file_changes_nothing_unless_it_was_asked_for(tmp_path: Path) -> None:
    assert keymap.load(tmp_path / "none.toml", required=False) == {}
    with pytest.raises(keymap.KeymapError, match="does not exist"):
        keymap.load(tmp_path / "none.toml", required=True)


def test_keys_by_action(tmp_path: Path) -> None:
    assert load(tmp_path, '[keys]\npause = "f8, space"\n') == {"pause": "f8,space"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[keys", "cannot be read"),
        ("[keys]\nfly = 'f'\n", "names 'fly'. Known are: back, bank"),
        ("[keys]\npause = 7\n", "must be keys as text"),
        ("[keys]\npause = 'f8,,f9'\n", "must be keys as text"),
        ("[keys]\npause = 'v'\n", "gives 'v' to both pause and vehicles"),
        ("[colours]\n", "one table"),
        ("keys = 3\n", "one table"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(keymap.KeymapError, match=said):
        load(tmp_path, content)


def test_the_default_keys_are_distinct() -> None:
    keys = [key for action in keymap.ACTIONS.values() for key in action.keys.split(",")]
    assert len(keys) == len(set(keys))


def test_the_default_path_follows_the_configuration_folder() -> None:
    assert keymap.default_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/chargepool/keymap.toml")
    assert keymap.default_path({"HOME": "/h"}) == Path("/h/.config/chargepool/keymap.toml")


def test_the_guide_lists_every_action_with_its_keys() -> None:
    guide = (ROOT / "docs" / "how-to" / "dashboard.md").read_text(encoding="utf-8")
    for action in keymap.ACTIONS.values():
        assert f"| `{action.id}` | {key_names(action.keys)} | {action.explained} |" in guide
