"""What callers install: the contracts' stubs, the exceptions, and a client for both services."""
