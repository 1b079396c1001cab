"""Several processes of one service on one port. Nothing here loads gRPC: it survives no fork."""
