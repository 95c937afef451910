"""Every step, one file each; importing this package fills `astrobench.STEPS`."""

from astrobench.steps.balance_color import BalanceColor
from astrobench.steps.crop import Crop
from astrobench.steps.debayer import Debayer
from astrobench.steps.export import Export
from astrobench.steps.grade import Grade
from astrobench.steps.measure import Measure
from astrobench.steps.register import Register
from astrobench.steps.remove_gradient import RemoveGradient
from astrobench.steps.stack import Stack
from astrobench.steps.stretch import Stretch

__all__ = [
    "BalanceColor",
    "Crop",
    "Debayer",
    "Export",
    "Grade",
    "Measure",
    "Register",
    "RemoveGradient",
    "Stack",
    "Stretch",
]
