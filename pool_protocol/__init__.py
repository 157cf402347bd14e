"""What server, car and buyer must agree on to the byte.

Nothing is imported here on purpose: a car's supervisor imports single modules of this package and must not
pull in JAX, gRPC or cryptography by accident.
"""
