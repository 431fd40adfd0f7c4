"""Asynchronous invocations: accepted durably, tried again, and their outcome sent where it belongs."""
