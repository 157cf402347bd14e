"""Pure decisions of the agent: signals and policy in, verdicts and effects out. No clock, no I/O."""
