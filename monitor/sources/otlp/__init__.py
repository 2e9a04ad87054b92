"""Metrics that OpenTelemetry SDKs and collectors push: OTLP over HTTP."""
