"""The pool's server: it admits programs, leases work, verifies results, keeps the books; over gRPC."""
