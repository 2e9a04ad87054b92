"""Samples that Prometheus and its kin push: the remote-write protocol 1.0."""
