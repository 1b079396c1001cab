"""Reads requests: decodes fields and checks them, one module for each kind of thing."""
