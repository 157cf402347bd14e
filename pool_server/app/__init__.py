"""Use cases: one command, one transaction. Load first, let the core decide, write last."""
