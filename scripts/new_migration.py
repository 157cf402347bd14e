"""Drafts the next schema revision from the models: `python scripts/new_migration.py "what changes"`.

Alembic compares the models with a fresh database at the newest revision. Read the draft before committing:
renames look like a drop and an add, and triggers are not compared (the test that migrations equal models
names what is missing).
"""

import sys
import tempfile
from pathlib import Path

from alembic import command

from pool_server.store.engine import open_engine
from pool_server.store.migrations import config, upgrade


def main(message: str) -> None:
    """Write the draft and say where it is."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'draft.sqlite3'}")
        upgrade(engine)
        with engine.begin() as connection:
            settings = config(connection)
            settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            versions = Path(settings.get_main_option("script_location") or "") / "versions"
            number = sum(1 for path in versions.glob("[0-9]*.py")) + 1
            command.revision(settings, message, autogenerate=True, rev_id=f"{number:04d}")
        engine.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
