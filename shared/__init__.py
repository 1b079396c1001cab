"""What both services need and neither owns, in rooms; pyproject.toml has their floors.

Imports no service. A service is a `server.program`: one process, or a supervisor and its workers
(`processes`). A call enters through `server`, whose steps ask `access` who may make it. A servicer
reads its fields and pages with `api`, raises what `kith.exceptions` defines, and reaches PostgreSQL
through `database`. `cli` is the command line.
"""
