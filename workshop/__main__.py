"""Run a command of the workshop; `python -m workshop mix --help` lists the options of `mix`."""

from __future__ import annotations

from companion.start import start

start()

from companion.options import Parser, formatter  # noqa: E402
from companion.run import run  # noqa: E402
from workshop import bank, finetune, mix, play, preview  # noqa: E402

COMMANDS = {"mix": mix, "play": play, "preview": preview, "bank": bank,
            "finetune": finetune}


def parser() -> Parser:
    """Return the parser of all commands."""
    whole = Parser(prog="python -m workshop", description=__doc__, allow_abbrev=False,
                   formatter_class=formatter)
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        line = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=line, description=line, allow_abbrev=False,
                                      formatter_class=formatter, usage="%(prog)s [options]")
        module.add_options(command)
        command.set_defaults(run=module.run)
    return whole


if __name__ == "__main__":
    run(lambda options: options.run(options), parser())
