"""Says what it was told to say."""

import os


def handler(event, context):
    """Return the greeting, and who is greeted."""
    return f"{os.environ['GREETING']} {event.get('name', 'world')}"
