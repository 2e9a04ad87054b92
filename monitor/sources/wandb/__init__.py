"""Live runs of a Weights & Biases project, over its GraphQL API; its client library is not needed."""
