"""How the pool finds its price: orders, the auction, the limiter, deadlines, the record, fair shares.

All of it pure: no clock, no chance, no database.
"""
