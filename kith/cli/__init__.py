"""The commands of `kith` that call running services: they need the extra `cli`.

`commands` parses the command line. `pages` renders what people see, `imports` and `exports` move
data out of `files` of `rows` and into them, `erasure` erases a person; all call the services
through `clients`. `arguments` defines the arguments, and `outcome` turns the end of a command into
a line and an exit status. `shared/cli` puts the operator's commands beside these.
"""
