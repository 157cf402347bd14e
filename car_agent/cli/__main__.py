"""`python -m car_agent.cli`."""

from car_agent.cli.commands import main

if __name__ == "__main__":
    main()
