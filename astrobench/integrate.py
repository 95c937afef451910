"""Stack any cube of samples: one call for arrays that come from elsewhere."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.image import Image
from astrobench.steps.stack import Stack


def integrate(
    samples: ArrayLike, *, exposure: float = float("nan"), context: Context | None = None, **parameters: Any
) -> Image:
    """Combine registered samples into one picture, leaving out those that do not belong.

    Parameters
    ----------
    samples : (N, H, W) or (N, C, H, W), any real dtype
        N frames of 1 or 3 channels. NaN, infinite and masked samples are missing.
    exposure : float
        Seconds of each frame; NaN: unknown.
    context : Context, optional
        Receives progress and facts; says how much memory and how many threads.
    **parameters
        Those of `Stack`: ``rejection="sigma"``, ``low=3``, ``combination="median"``, ...

    Returns
    -------
    Image
        The stack with its variance, coverage, weight, rejection and saturation maps.

    Raises
    ------
    ParameterError
        For samples or parameters that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> cube = np.full((5, 2, 2), 7.0)
    >>> float(integrate(cube, normalisation="none").data[0, 0, 0])
    7.0
    """
    # checked before the samples are looked at: a wrong name is known at once
    step = Stack(**parameters)
    return step.apply(Cube.from_array(samples, exposure=exposure), context or Context())  # type: ignore[arg-type]
