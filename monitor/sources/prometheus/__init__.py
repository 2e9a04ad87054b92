"""A Prometheus server: samples as they were scraped."""
