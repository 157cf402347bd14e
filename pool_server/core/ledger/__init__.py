"""The double-entry ledger, pure: what may be transferred, and what rows and counters that makes."""
