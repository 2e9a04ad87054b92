"""The status page and our own metrics over HTTP."""
