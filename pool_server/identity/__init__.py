"""Keys, certificates, tokens and device codes: how the pool knows who speaks. No database, no RPC."""
