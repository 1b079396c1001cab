"""Who may make which call, and what is written down of it.

A service says in `rules` which callers each of its calls admits and what is audited. The step
around every call that enforces it is `admission` in the server. `credentials` finds the caller
(`callers`) by the connection's certificate or by a signed token, which `tokens` verifies with
`keys`.
"""
