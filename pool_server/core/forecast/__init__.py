"""What a job will probably cost, take and burn: estimates for a quote. Pure; none of them binds anybody."""
