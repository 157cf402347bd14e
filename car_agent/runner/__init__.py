"""The worker process that computes, and its keeper in the supervisor.

Nothing is imported here: the worker applies its sandbox before anything else is loaded.
"""
