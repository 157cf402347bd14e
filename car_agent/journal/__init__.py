"""What outlives the agent's process: consent, keys and identity, settings, leases, results, counters."""
