"""What permissions requests need, service by service."""
