"""The small part of other AWS services that people use next to Lambda: logs and metrics."""
