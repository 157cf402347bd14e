"""Widgets: they paint views and post messages; they decide nothing and call no gateway."""
