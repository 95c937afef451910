"""The first notebook runs from top to bottom and leaves the picture it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "0_start.ipynb"


@pytest.mark.filterwarnings("default")  # Jupyter's own, which are not ours to mend
def test_the_first_notebook_runs_and_leaves_its_results(tmp_path):
    papermill = pytest.importorskip("papermill")
    parameters = {"frames": 6, "out": str(tmp_path / "night"), "shape": [480, 270]}

    done = papermill.execute_notebook(
        NOTEBOOK, tmp_path / "done.ipynb", parameters, kernel_name="python3", progress_bar=False, cwd=tmp_path
    )

    assert {"master.fits", "result.fits", "result.png", "report.json"} <= {
        path.name for path in (tmp_path / "night").iterdir()
    }
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert sum("text/html" in output.get("data", {}) for output in outputs) == 3
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
