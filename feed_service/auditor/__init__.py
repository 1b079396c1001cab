"""The auditor: a process beside the services that checks what they answer against the plain rule.

It is a second implementation of the rule of visibility, written from the contract. So it imports
nothing of feed_service: neither its queries nor its rule. It reads both primary databases with a
role that can read no texts, and calls feed_service as every other service does.
"""
