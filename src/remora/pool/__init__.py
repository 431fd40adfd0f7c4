"""Which environment serves which invocation; what waits or is refused."""
