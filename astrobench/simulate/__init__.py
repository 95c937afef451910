"""A simulated night with known truth: raw subs like a Seestar's, and all that is true of them."""

from astrobench.simulate.night import simulate_night
from astrobench.simulate.truth import Night

__all__ = ["Night", "simulate_night"]
