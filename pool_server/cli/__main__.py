"""`python -m pool_server.cli` is `pool-server`."""

from pool_server.cli.root import main

main()
