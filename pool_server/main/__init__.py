"""Wires the server: the only place, beside the simulator, that knows use cases and store at once."""
