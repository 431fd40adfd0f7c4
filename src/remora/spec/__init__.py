"""What AWS publishes, as data with its source: operations, limits, error types, variables."""
