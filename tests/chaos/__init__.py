"""Breaking things under load, and counting what callers lose by it: `make chaos`.

Each fault has a promise, which is a few figures with bounds. `stage` runs PostgreSQL and both
services as processes, with proxies between them that can fail; `load` calls them from a process of
its own and writes a `history`, which is then compared with what the databases hold. The modules
named for what they break register their faults in `fault`; `report` prints the table.
"""
