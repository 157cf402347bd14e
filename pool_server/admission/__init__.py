"""Vets programs outside the server process: hostile bytes meet the parser in a throw-away sandboxed child."""
