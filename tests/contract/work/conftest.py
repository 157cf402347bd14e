"""A workshop per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.workshop import Workshop


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Workshop]:
    """A pool with cars and jobs to be made; its books must be sound at the end."""
    workshop = Workshop(tmp_path / "pool.sqlite3")
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()
