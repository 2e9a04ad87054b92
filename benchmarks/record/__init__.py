"""A small real trainer that records runs with known faults (see README.md)."""
