"""The command line: starts Kith here, moves data in and out, shows what people see.

Knows the services only as processes to start and as what the contracts promise. `run` starts them
(`processes`) and loads the sample (`sample`, `loading`); `transfers` moves files in and out,
`pages` renders what people see, and all of them call the services through `clients`.
"""
