"""Are faults in the code noticed?  `python -m tests.mutants` asks mutmut, and keeps the answer.

    pip install mutmut==3.8.1
    python -m tests.mutants --processes 2         # all that was not yet run: half an hour in all
    python -m tests.mutants companion.plan        # these modules only
    python -m tests.mutants --again               # what survived last time

mutmut copies the code to `mutants/`, changes it in one place at a time, and runs the tests that
call the changed function, the quickest first, until one fails.  The counts and what survived go to
`tests/mutants.json`; the reasons there are written by hand and kept.

mutmut loads this file as a plugin of pytest as well: it imports what is heavy once, before the
process is forked for each mutant, and skips tests at the point where they start another process,
which would run no mutant.  The fork has all tests collected, too (`forking_runner`).
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "tests" / "mutants.json"
MODULES = ("chapter_05_example_01", "chapter_05_example_02", "audio_utils",
           "synths.nsynth.mixing", "synths.nsynth.decode", "synths.gansynth.generate_util",
           "companion.inputs", "companion.options", "companion.plan", "companion.progress",
           "companion.record", "companion.results", "companion.run", "companion.start",
           "companion.page", "companion.page.reports", "companion.page.rolls")
# Of these modules some functions only: the rest is held against Magenta's code.
PARTS = {"synths.nsynth.decode": ("choose_precision", "_settle", "nll", "_nll")}
HEAVY = ("PIL.Image", "PIL.JpegImagePlugin", "PIL.PdfImagePlugin", "PIL.PngImagePlugin",
         "PIL.WebPImagePlugin", "jinja2", "librosa", "matplotlib.backends.backend_agg",
         "matplotlib.figure", "mido", "note_seq.midi_io", "pretty_midi", "scipy.ndimage",
         "soundfile", "soxr", "synths.weights.downloads", "tqdm")
FINISHED = {"killed", "timeout", "survived", "no tests"}


# The plugin ------------------------------------------------------------------------------------


def pytest_configure(config):
    """Import what is heavy, and let nothing start a process."""
    import pytest

    for name in HEAVY:
        importlib.import_module(name)

    def refuse(*words, **options):
        pytest.skip("another process would run no mutant")
    subprocess.Popen = refuse


# The runner ------------------------------------------------------------------------------------


def forking_runner():
    """Make mutmut's runner collect the tests once, and not anew for each mutant.

    A mutant's process is a fork of one that has collected all tests; so it runs those that mutmut
    chose within some hundredths of a second, the quickest first.
    """
    from _pytest.config import _prepareconfig
    from _pytest.main import Session
    from _pytest.runner import runtestprotocol
    from mutmut.runners.harness import PytestRunner
    from mutmut.state import state
    from mutmut.utils.file_utils import change_cwd

    class Runner(PytestRunner):
        items: dict = {}

        def warm_up(self):
            with change_cwd("mutants"):
                config = _prepareconfig(["--rootdir=.", "-q", *self._pytest_add_cli_args,
                                         *self._pytest_add_cli_args_test_selection])
                config._do_configure()
                session = Session.from_config(config)
                config.hook.pytest_sessionstart(session=session)
                config.hook.pytest_collection(session=session)
            for item in session.items:
                item.repr_failure = lambda excinfo: "noticed"  # nobody reads more of it
            Runner.items = {item.nodeid: item for item in session.items}
            gc.collect()
            gc.freeze()  # no fork copies, nor looks through, what is here by now
            gc.disable()

        def run_tests(self, *, mutant_name, tests):
            if not Runner.items:
                return super().run_tests(mutant_name=mutant_name, tests=tests)
            seconds = state().duration_by_test
            chosen = sorted((Runner.items[name] for name in tests if name in Runner.items),
                            key=lambda item: seconds.get(item.nodeid, 0))
            with change_cwd("mutants"):
                try:
                    for item, following in zip(chosen, [*chosen[1:], None]):
                        if any(report.failed for report in
                               runtestprotocol(item, log=False, nextitem=following)):
                            return 1
                    return 0
                finally:
                    temporary = chosen[0].config._tmp_path_factory.getbasetemp()
                    shutil.rmtree(temporary, ignore_errors=True)

    from mutmut.workers import isolation
    in_time = isolation.register_timeout
    isolation.PytestRunner = Runner
    # An endless loop ends by the seconds of processor time that mutmut grants.  Those on the wall
    # are a last resort: on a busy machine many pass before a process gets its turn.
    isolation.register_timeout = lambda pid, seconds: in_time(pid, 60 + 20 * seconds)


# The command -----------------------------------------------------------------------------------


def pattern(module: str, function: str = "*") -> str:
    """What mutmut calls the mutants of a function."""
    return f"{module}.x_{function}__mutmut_*" if function != "*" else f"{module}.x*__mutmut_*"


def wanted(module: str, mutant: str) -> bool:
    """Whether a mutant is one that we ask for."""
    function = mutant.rpartition(".")[2].rpartition("__mutmut_")[0].removeprefix("x_")
    return module not in PARTS or function in PARTS[module]


def file_of(module: str) -> Path:
    """The file of a module, from the repository's root."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def results() -> dict[str, dict[str, str]]:
    """What became of each mutant, by module."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.stats import status_by_exit_code

    found = {}
    for module in MODULES:
        path = file_of(module)
        data = SourceFileMutationData(path=path)
        data.load()
        found[module] = {name: status_by_exit_code[code]
                         for name, code in data.exit_code_by_key.items() if wanted(module, name)}
    return found


def change(mutant: str) -> str:
    """The lines that a mutant takes out and puts in."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    path = file_of(mutant.rpartition(".")[0])
    lines = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    return "\n".join(line[0] + " " + line[1:].strip() for line in lines if line[:1] in "+-")


def keep(found: dict[str, dict[str, str]]) -> None:
    """Write the counts and what survived, with the reasons that were written before."""
    import importlib.metadata

    before = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {"survived": []}
    why = {(entry["function"], entry["change"]): entry["why"] for entry in before["survived"]}
    modules, survived = {}, []
    for module, mutants in found.items():
        counts = collections.Counter(mutants.values())
        killed = counts["killed"] + counts["timeout"]
        run = sum(counts[status] for status in FINISHED)
        modules[module] = {"mutants": len(mutants), "run": run, "killed": killed,
                           "percent of those run": round(100 * killed / max(1, run), 1)}
        for mutant, status in mutants.items():
            if status in ("survived", "no tests"):
                function = mutant.rpartition("__mutmut_")[0].replace(".x_", ".")
                line = change(mutant)
                survived.append({"function": function, "change": line,
                                 "why": why.get((function, line), "")})
    KEPT.write_text(json.dumps({"mutmut": importlib.metadata.version("mutmut"),
                                "modules": modules, "survived": survived},
                               indent=1, ensure_ascii=False) + "\n", "utf-8")
    for module, counts in modules.items():
        print(f"{module:28}", *(f"{value} {name}," for name, value in counts.items()))


def names_of(modules: Sequence[str], again: bool) -> list[str]:
    """The mutants to run, as mutmut takes them; none stands for all that were not yet run."""
    if again:
        return [mutant for module, mutants in results().items() for mutant, status in
                mutants.items() if status not in ("killed", "timeout")
                and (not modules or module in modules)]
    return [pattern(module, function) for module in modules
            for function in PARTS.get(module, ("*",))]


def main() -> int:
    """Run mutmut on the modules named, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], metavar="MODULE",
                        help="only these")
    parser.add_argument("--again", action="store_true", help="only what survived last time")
    parser.add_argument("--show", action="store_true", help="only show what survived last time")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    options = parser.parse_args()
    if options.show:
        for mutant in names_of(options.modules, again=True):
            print(mutant, change(mutant), sep="\n")
        return 0
    code = ("import sys; from mutmut.__main__ import cli; from tests.mutants import "
            "forking_runner; "
            "forking_runner(); cli(sys.argv[1:])")
    names = names_of(options.modules, options.again)
    if names or not options.again:
        subprocess.run([sys.executable, "-c", code, "run", "--max-children",
                        str(options.processes), *names], cwd=ROOT, check=True,
                       env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    keep(results())
    return 0


if __name__ == "__main__":
    sys.exit(main())
