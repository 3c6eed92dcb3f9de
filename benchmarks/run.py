"""Run all benchmarks of our code and Magenta's: `python -m benchmarks.run` (about 20 minutes).

Options are passed to each benchmark; `python -m benchmarks.nsynth --help` lists them.
"""

import subprocess
import sys

from benchmarks.common import ROOT, machine

if __name__ == "__main__":
    for name, value in machine().items():
        print(f"{name}: {value}", flush=True)
    for name in ("nsynth", "gansynth"):
        print(f"\n# {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], cwd=ROOT,
                       check=True)
