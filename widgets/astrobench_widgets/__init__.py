"""Panels and viewers of astrobench for Jupyter."""

from astrobench import __version__ as __version__
