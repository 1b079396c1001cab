"""The commands of `kith` that call running services: they need the extra `cli`.

`commands` parses the command line. `pages` renders what people see, `transfers` moves data in and
out of `files` and their `rows`, `erasure` erases a person; all call the services through `clients`.
`arguments` says what may be given, and `outcome` turns how a command ended into a line and an exit
status. `shared/cli` puts the operator's commands beside these.
"""
