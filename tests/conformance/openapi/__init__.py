"""What the tests of protos/openapi.yaml need: packages, settings of tools, and two clients."""
