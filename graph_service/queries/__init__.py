"""Every SQL statement of graph_service, one function each; its first line says what comes back.

A module for each thing that is stored or asked for. Functions that change something run in the
caller's transaction. Pairs are always written with the lower id first. Users are locked before
anything of theirs is read for a decision, in the order of their ids, so that two transactions never
wait for each other.
"""
