"""The tables of the feed on the nodes of Citus."""
