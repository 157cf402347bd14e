"""`pool-tui`: the owner's dashboard in a terminal, and a plain view for the operator.

    cli > app > screens > widgets > messages > view_models > facts

The screens ask a gateway (`gateway.py`, a Protocol; `grpc_gateway.py` speaks gRPC) and never a channel.
What a panel says is decided in `view_models`, without a terminal. Workers post messages; only handlers
touch widgets.
"""
