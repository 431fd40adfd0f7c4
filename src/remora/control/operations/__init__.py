"""The handlers of the Lambda API, one file per resource family."""
