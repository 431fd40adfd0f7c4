"""Turns uploaded zips and layers into read-only directories named by digest."""
