"""Remora: a self-hosted function platform, compatible with AWS Lambda, that takes extensions seriously."""

from importlib.metadata import version

__version__ = version("remora")
