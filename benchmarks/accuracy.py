"""Stack simulated frames with a known answer and judge the result, ours beside Siril's; prints a table.

    python benchmarks/accuracy.py [plain six ten clouds ragged trails] [--rejection NAME]

Frames and judge are those of ../shared/bench (generate_frames.py, accuracy.py); without that folder there is
nothing to run. chi: noise over the best possible; leak: planted outliers above 5 sigma that still stand above
5 sigma in the stack [%], in all and for 5-20, 20-100 and above 100 sigma. Default settings, frames as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

JUDGE = Path(__file__).resolve().parents[2] / "shared" / "bench"
SETS = {
    "plain": ["--preset", "seestar30"],
    "six": ["--count", "6", "--seed", "6"],
    "ten": ["--count", "10", "--seed", "7"],
    "clouds": ["--seed", "8", "--scale-jitter", "0.5", "--offset-jitter", "700"],
    "ragged": ["--seed", "9", "--border", "80"],
    "trails": ["--seed", "10", "--trails", "6", "--cosmics", "60"],
    "24mp": ["--preset", "24mp30"],
}
SHOWN = ("chi_sky", "chi_rms", "chi_star", "bias_star", "leak", "leak_5_20", "leak_20_100", "leak_100")
SIRIL = "requires 1.0.0\nsetext fits\nset32bits\ncd frames\nlink f -out=../process\ncd ../process\n"
SIRIL += "stack f rej w 3 3 -norm=addscale -out=../siril\nclose\n"


def ours(frames: Path, out: Path, rejection: str) -> str:
    """Stack with astrobench; return the rule that was used."""
    from astrobench.context import Context
    from astrobench.cube_files import cube_from_files
    from astrobench.frames import Frames
    from astrobench.steps.stack import Stack

    context = Context(scratch=out.parent / "scratch")
    found = Frames.scan(sorted(frames.glob("frame_*.fits")), context=context, named=True)
    image = Stack(rejection=rejection).apply(cube_from_files(found, context), context)  # type: ignore[arg-type]
    fits.PrimaryHDU(image.data[0]).writeto(out, overwrite=True)
    return str(context.report.find("rejection")[0].numbers["rule"])


def siril(home: Path) -> None:
    """Stack with Siril: winsorised 3/3, additive with scaling, its best for few frames."""
    (home / "process").mkdir(exist_ok=True)
    (home / "stack.ssf").write_text(SIRIL)
    command = ["siril-cli", "-d", str(home), "-s", str(home / "stack.ssf")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HOME": str(home)})


def judged(frames: Path, result: Path) -> dict[str, Any]:
    command = [sys.executable, str(JUDGE / "accuracy.py"), str(frames), str(result), "--json"]
    answer: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer[0]


def show(name: str, who: str, judged_as: dict[str, Any]) -> None:
    figures = "".join(f"{judged_as[key]:>12.4f}" for key in SHOWN)
    print(f"{name:8}{who:24}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=[name for name in SETS if name != "24mp"], help=", ".join(SETS))
    parser.add_argument("--rejection", default="auto")
    a = parser.parse_args()
    if not (JUDGE / "accuracy.py").is_file():
        raise SystemExit(f"Skipped: frames and judge of this comparison lie in {JUDGE}, which is not there.")
    print(f"{'set':8}{'by':24}" + "".join(f"{key:>12}" for key in SHOWN))
    for name in a.sets:
        home = Path(tempfile.mkdtemp(prefix="stack-accuracy-"))
        try:
            frames = home / "frames"
            make = [sys.executable, str(JUDGE / "generate_frames.py"), str(frames), *SETS[name]]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
            rule = ours(frames, home / "ours.fits", a.rejection)
            show(name, f"astrobench {rule}", judged(frames, home / "ours.fits"))
            if shutil.which("siril-cli"):
                truth = home / "truth"  # Siril would link these files as frames
                truth.mkdir()
                for other in ("truth.fits",):
                    (frames / other).rename(truth / other)
                siril(home)
                (truth / "truth.fits").rename(frames / "truth.fits")
                show(name, "Siril winsorised 3/3", judged(frames, home / "siril.fits"))
        finally:
            shutil.rmtree(home)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
