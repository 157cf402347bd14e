"""The pool as the agent sees it: pairing, leases and what they need, results, the stream."""
