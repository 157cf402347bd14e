"""One honest pool for all stories; each begins with a copy of its data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.transparency.dishonest import copied
from tests.integration.transparency.play import Story, Watcher, play


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return play(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def watcher(story: Story, tmp_path: Path) -> Watcher:
    """One who has followed the honest pool to its end."""
    return Watcher(story, Path(shutil.copy(story.book, tmp_path / "receipts.sqlite3")))


@pytest.fixture
def data(story: Story, tmp_path: Path) -> Path:
    """The pool's data, to be rewritten."""
    return copied(story.data, tmp_path / "pool")
