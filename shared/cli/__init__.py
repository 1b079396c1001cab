"""The command line: starts Kith here, moves data in and out, shows what people see.

Knows the services only as processes to start and as what the contracts promise. `run` starts them
(`processes`) with an object store beside them (`photos`) and loads the sample (`sample`,
`loading`); `gateway` runs Envoy, which `envoy` tells what to do; `transfers` moves data in and out
of `files` and their `rows`, `erasure` erases a person, `pages` renders what people see. All but the
gateway call the services through `clients`. `arguments` says what may be given, and `outcome` turns
how a command ended into a line and an exit status.
"""
