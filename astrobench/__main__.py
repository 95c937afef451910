"""Run the command line: the script `astrobench`, and `python -m astrobench`."""

import gc
import sys

# Objects made before Python looks for cycles among the young, and such looks before one among the older. What the
# libraries set up lasts, and arrays are freed by count: with Python's 700 and 10 the looks cost 0.2 s of a short run.
GARBAGE_THRESHOLDS = 20_000, 20


def main() -> None:
    """Start the command line; Ctrl-C while it is still loading ends it as quietly as later."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        from astrobench.cli import main as run
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    try:
        run()
    finally:
        gc.freeze()  # else the end of the process looks through everything once more: 0.3 s


if __name__ == "__main__":
    main()
