"""Clock, identifiers, tasks: nothing here knows the word function."""
