"""The command line: starts Kith here, moves data in and out, shows what people see.

Knows the services only as processes to start and as what the contracts promise. `run` starts them
(`processes`) with an object store beside them (`photos`) and loads the sample (`sample`,
`loading`); `transfers` moves files in and out, `pages` renders what people see, and all of them
call the services through `clients`.
"""
