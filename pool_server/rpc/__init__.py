"""The gRPC edge: authenticate, convert, one use case, convert. Nothing else."""
