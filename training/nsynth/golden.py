"""Write the training code's results for the bundled sounds: `python -m training.nsynth.golden`.

The tests compare this small file with the results of `synths.nsynth` for the exported checkpoint,
without PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from training import command, make_parser, report
from training.nsynth.evaluate import shipped_sounds
from training.nsynth.model import Autoencoder, mu_law, signal_of
from training.nsynth.names import averages, read_state
from training.nsynth.train import size_of

SAMPLES = 4096


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file; see the module's head."""
    parser = make_parser("training.nsynth.golden", __doc__)
    parser.add_argument("--state", type=Path, default=Path("checkpoints/nsynth_starter"),
                        metavar="FILE", help="training state or checkpoint (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("tests/data/nsynth_starter.npz"),
                        metavar="FILE", help="file of the results (default: %(default)s)")
    options = parser.parse_args(arguments)
    state, sounds = read_state(options.state), shipped_sounds(Path("sounds"))
    model = Autoencoder(size_of(state))
    model.load(averages(state))
    with torch.no_grad():
        codes = torch.from_numpy(np.stack([mu_law(a[:SAMPLES]) for a in sounds.values()]))
        signal = signal_of(codes)
        encodings = model.encode(signal)
        nll = [float(model.loss(s[None], c[None], e[None]))
               for s, c, e in zip(signal, codes, encodings)]
    report.write_arrays(options.output, names=list(sounds), samples=SAMPLES, steps=state["steps"],
                        encodings=encodings.numpy(), nll=np.array(nll))
    print(options.output)


if __name__ == "__main__":
    raise SystemExit(main())
