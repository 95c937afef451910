"""Run the command line: the script `astrobench`, and `python -m astrobench`."""

import sys


def main() -> None:
    """Start the command line; Ctrl-C while it is still loading ends it as quietly as later."""
    try:
        from astrobench.cli import main as run
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
