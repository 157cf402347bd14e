"""Payouts, pure: who is paid how much, who is left out and why, and which state follows which."""
