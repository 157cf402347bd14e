"""The whole road on one machine: a pool server, six cars, a buyer's training job, a payout.

Starts the other programs as processes and talks to them over gRPC only; imports none of them.
"""
