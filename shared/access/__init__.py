"""Who may make which call, and what is written down of it.

A service says in `rules` whom each of its calls admits and what is audited. The `steps` around
every call hold it to that: `credentials` finds the caller (`callers`) by the connection's
certificate or by a signed token, which `tokens` verifies with `keys`.
"""
