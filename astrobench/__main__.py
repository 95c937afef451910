"""Run the command line with `python -m astrobench`."""

from astrobench.cli import main

main()
