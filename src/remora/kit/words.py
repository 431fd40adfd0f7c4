"""Words for people."""


def count(number: int, word: str) -> str:
    """Return a number of things: `1 function`, `2,000 functions`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
