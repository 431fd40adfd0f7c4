"""Who calls: signatures, keys, temporary credentials, and what policies allow."""
