"""How fast Kith is, on data that anyone can make again and against baselines in the same run.

    make bench          20,000 people and a million posts, in minutes
    make bench-full     200,000 people, 15 million connections, 10 million posts
    make bench-load     rates and latencies under published mixes of calls

The way of a figure through these files: `world` makes up people and posts, `dataset` loads them,
`capture` runs the services behind a tap to learn which statements they send, `baselines` does the
same work in other ways, `processes` starts everything and reads the kernel's CPU clocks, `rounds`
interleaves, `end_to_end`, `interceptors`, `sql` and `services` have a function for each row of the
table, `table` names and orders them, `report` prints them. `loads` is beside that.

Everything is compared within one run and in turns, because figures of a machine that others use
mean nothing by themselves. What changes the services changes what is measured, without a change
here: the services are asked through their own API, and their statements are those on the wire.
"""
