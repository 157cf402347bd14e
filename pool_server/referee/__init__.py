"""Runs admitted programs on the pool's own machine: certificates, disputed units; sandboxed children."""
