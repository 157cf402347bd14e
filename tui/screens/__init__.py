"""Screens: they lay widgets out, run the workers that load their own data, and hand it down."""
