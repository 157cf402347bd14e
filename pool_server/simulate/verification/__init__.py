"""The verification simulator: production's audit rule against cheats of every kind, fast.

Between audits that catch nothing happens: an audit that passes changes no state. So a life, from one reset of
the history to the next, is drawn whole: its length from the rule's survival function, then how much of it was
wrong. What a cheat does in a life is a `Plan` (`plan`), made by a strategy (`strategies`); `lives` draws,
`pool` adds up, `peers` holds other systems' rules, `one_by_one` does the same unit by unit, to compare.
"""
