"""What both services need and neither owns: the gRPC runtime, errors, paging, database access.

Imports no service. A service is a `program`, as one process or as a `supervisor` and its
`workers`. A call enters through `server` and `interceptors`; a servicer reads its request
with `fields` and `paging`, raises what `errors` defines, and reaches PostgreSQL by `database`.
"""
