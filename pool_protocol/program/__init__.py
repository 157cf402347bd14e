"""Programs: a JAX function as a portable artifact and a manifest, and back.

Nothing is imported here. `manifest` is pure and small; `export`, `load`, `vetting` and `cost` import JAX;
`admission` starts a sandboxed child that does. A process that must not load JAX (the car's supervisor, the
pool server) imports `manifest` and `admission` only.
"""
