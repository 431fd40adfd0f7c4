"""The composition root: reads settings, names drivers, starts everything."""
