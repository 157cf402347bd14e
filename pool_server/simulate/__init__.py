"""Simulators that run production decisions over simulated vehicles."""
