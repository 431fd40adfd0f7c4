"""Templates become programs: read, transformed, and evaluated as far as what they refer to is known."""
