"""`kith conformance`: tries what a deployment promises its callers, and says what became of it.

Each promise is a function whose name is the sentence that has to be true: it returns the evidence,
and raises `BrokenPromiseError` or `NotTriedError`. They are in a module for each area: `health`,
`reflection`, `errors`, `paging`, `retries`, `visibility`, `changes` and `gateway`. `promises`
defines what they are, `world` makes the people that they need and erases them, `deployments` is
what they call, and `run` runs them and prints the findings.
"""
