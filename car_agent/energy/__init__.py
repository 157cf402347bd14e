"""Where energy figures and prices come from: the machine's own counters, and the owner's tariff."""
