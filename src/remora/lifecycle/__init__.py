"""The environment's state machine: events in, effects out, no I/O."""
