"""Generated protobuf and gRPC stubs; made by scripts/generate_protocol.py."""
