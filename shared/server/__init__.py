"""The gRPC server as both services run it, and what happens around every call."""
