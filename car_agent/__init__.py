"""The daemon on the vehicle: it computes for the pool while the car charges, and never otherwise.

Nothing is imported here, so that `python -m car_agent.runner.worker` reaches its sandbox before anything else
runs.
"""

__version__ = "0.1.0"
