"""The supervisor: signals to policy, policy to state machine, state machine to worker and session."""
