"""The command line of an operator: starts Kith here, and keeps its databases.

Knows the services only as processes to start and as what the contracts promise. `run` starts them
(`processes`) with an object store beside them (`photos`) and loads the sample (`sample`,
`loading`); `gateway` runs Envoy, which `envoy` tells what to do; `schemas` migrates `databases`,
`doctor` examines them. The commands that call running services are those of `kith.cli`, which this
one has as well.
"""
