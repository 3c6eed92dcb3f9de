"""The options: what each is, its default and range, and what is said of a wrong one.

`python tests/test_options.py` writes docs/options.md anew.
"""

import importlib
import io
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from companion.options import given, number, option_parser, words_of  # noqa: E402

EXAMPLES = ("chapter_05_example_01", "chapter_05_example_02")
PAGE = ROOT / "docs" / "options.md"


def parser_of(name):
    return importlib.import_module(name).parse_options()


def row(action):
    """A line of the table, of one option."""
    value = action.metavar or "|".join(map(str, action.choices or ()))
    if action.nargs == "+":
        first, more = value if isinstance(value, tuple) else (value, value)
        value = f"{first} [{more} ...]"
    words = f"{', '.join(action.option_strings)} {value}".strip().replace("|", "\\|")
    return f"| `{words}` | {action.help} |"


def page():
    """docs/options.md, made from the parsers."""
    one, two = ([row(action) for action in parser_of(name)._actions] for name in EXAMPLES)
    lines = ["# Every option", "", "Made from the scripts by `python tests/test_options.py`."]
    for title, table in (("Both examples", [line for line in one if line in two]),
                         ("Example 1", [line for line in one if line not in two]),
                         ("Example 2", [line for line in two if line not in one])):
        lines += ["", f"## {title}", "", "| option | what it does |", "|---|---|", *table]
    return "\n".join(lines) + "\n"


def test_the_page_of_options_is_what_the_scripts_take():
    assert PAGE.read_text("utf-8") == page(), "python tests/test_options.py writes it anew"


@pytest.mark.parametrize("name, line", [
    (EXAMPLES[0], "Example 1 of chapter 5: NSynth blends two sounds into a new one."),
    (EXAMPLES[1], "Example 2 of chapter 5: GANSynth plays a score on instruments that never "
                  "existed.")])
def test_help_fits_the_terminal_and_begins_with_what_the_script_does(name, line, monkeypatch):
    for columns, widest in ((70, 68), (300, 100)):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = parser_of(name).format_help().splitlines()
        assert lines[0].endswith(" [options]") and line in " ".join(lines)
        assert widest - 12 < max(map(len, lines)) <= widest
        assert "in both examples:" in lines
        seed = next(text for text in lines if text.startswith("  --seed N"))
        assert seed.index("repeats a run") == 30


COMMON = {"checkpoint": None, "download": False, "output": None, "overwrite": False, "seed": None,
          "engine": "fast", "many": False, "labels": False, "threads": None, "quiet": False}


def test_defaults_are_the_chapters():
    one, two = (vars(parser_of(name).parse_args([])) for name in EXAMPLES)
    assert one == {**COMMON, "output": str(ROOT / "output" / "nsynth"), "sounds": None,
                   "seconds": 1.0, "trim": False, "level": False, "mix": "lean", "ratio": None,
                   "pairs": None, "steps": None, "crossfade": False, "stretch": 1.0, "scale": 1.0,
                   "temperature": 1.0, "precision": "auto", "resume": False}
    assert two == {**COMMON, "output": str(ROOT / "output" / "gansynth"),
                   "midi": ["cs1-1pre-short.mid"], "tempo": 1.0, "seconds_per_instrument": 5.0,
                   "instruments": None, "preview": None}


def test_every_option_is_read():
    common = ["--checkpoint", "c", "--download", "--output", "o", "--overwrite", "--seed", "3",
              "--engine", "magenta", "--many", "--labels", "--threads", "2", "--quiet"]
    expected = {"checkpoint": "c", "download": True, "output": "o", "overwrite": True, "seed": 3,
                "engine": "magenta", "many": True, "labels": True, "threads": 2, "quiet": True}
    one = parser_of(EXAMPLES[0]).parse_args([
        *common, "--sounds", "a", "b", "--seconds", "2.5", "--trim", "--level", "--mix", "book",
        "--ratio", "0.25", "--pairs", "a+b", "b+a", "--steps", "4", "--crossfade", "--stretch",
        "0.5", "--scale", "-2", "--temperature", "0.7", "--precision", "int8", "--resume"])
    assert vars(one) == {**expected, "sounds": ["a", "b"], "seconds": 2.5, "trim": True,
                         "level": True, "mix": "book", "ratio": 0.25, "pairs": ["a+b", "b+a"],
                         "steps": 4, "crossfade": True, "stretch": 0.5, "scale": -2.0,
                         "temperature": 0.7, "precision": "int8", "resume": True}
    two = parser_of(EXAMPLES[1]).parse_args([
        *common, "--midi", "a", "b", "--tempo", "2", "--seconds-per-instrument", "7.5",
        "--instruments", "3,1", "--preview", "9"])
    assert vars(two) == {**expected, "midi": ["a", "b"], "tempo": 2.0,
                         "seconds_per_instrument": 7.5, "instruments": "3,1", "preview": 9}


@pytest.mark.parametrize("name, option, low, high, below, above, unit", [
    (EXAMPLES[0], "--seed", 0, 4294967295, -1, 4294967296, ""),
    (EXAMPLES[0], "--threads", 1, 1024, 0, 1025, ""),
    (EXAMPLES[0], "--seconds", 0.1, 60.0, 0.09, 60.1, " seconds"),
    (EXAMPLES[0], "--ratio", 0.0, 1.0, -0.1, 1.1, ""),
    (EXAMPLES[0], "--steps", 2, 99, 1, 100, ""),
    (EXAMPLES[0], "--stretch", 0.1, 10.0, 0.09, 10.1, ""),
    (EXAMPLES[0], "--scale", -10.0, 10.0, -10.1, 10.1, ""),
    (EXAMPLES[0], "--temperature", 0.01, 2.0, 0.009, 2.1, ""),
    (EXAMPLES[1], "--tempo", 0.05, 20.0, 0.04, 20.1, ""),
    (EXAMPLES[1], "--seconds-per-instrument", 0.1, 3600.0, 0.09, 3600.1, " seconds"),
    (EXAMPLES[1], "--preview", 1, 200, 0, 201, "")])
def test_numbers_have_a_range_that_is_said(name, option, low, high, below, above, unit, capsys):
    parser = parser_of(name)
    dest = option.strip("-").replace("-", "_")
    said = "4,294,967,295" if option == "--seed" else f"{high:,g}"
    for value in (low, high):
        parsed = vars(parser.parse_args([f"{option}={value}"]))[dest]
        assert parsed == value and isinstance(parsed, type(value))
    for value in (below, above, "x", "1.5" if isinstance(low, int) else "nan"):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([f"{option}={value}"])
        assert ended.value.code == 2
        assert capsys.readouterr().err == (
            f"error: Argument {option}: must be a number from {low:,g} to {said}{unit}, found "
            f"{str(value)!r}.\n")


@pytest.mark.parametrize("name, words, says", [
    (EXAMPLES[0], ["--sound", "x"], "error: --sound is no option; did you mean --sounds?\n"),
    (EXAMPLES[0], ["--sound=x"], "error: --sound is no option; did you mean --sounds?\n"),
    (EXAMPLES[1], ["--tmepo", "2", "--qui"], "error: --tmepo is no option; did you mean "
                                             "--tempo?\n"),
    (EXAMPLES[1], ["--zzz"], "error: --zzz is no option; --help lists them.\n"),
    (EXAMPLES[1], ["--" + "z" * 12_700], f"error: --{'z' * 96} ... {'z' * 97} is no option; --help "
                                         "lists them.\n"),
    (EXAMPLES[1], ["more"], "error: more is no option; --help lists them.\n"),
    (EXAMPLES[0], ["--ratio"], "error: Argument --ratio: expected one argument.\n"),
    (EXAMPLES[0], ["--trim=yes"], "error: Argument --trim: ignored explicit argument 'yes'.\n")])
def test_a_wrong_option_is_one_sentence(name, words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        parser_of(name).parse_args(words)
    assert ended.value.code == 2 and capsys.readouterr().err == says


def test_a_choice_is_one_of_those_named(capsys):
    for name, option, choices in ((EXAMPLES[0], "--mix", ["lean", "mean", "book"]),
                                  (EXAMPLES[0], "--precision", ["auto", "float32", "int8"]),
                                  (EXAMPLES[1], "--engine", ["fast", "magenta"])):
        for choice in choices:
            assert vars(parser_of(name).parse_args([option, choice]))[option[2:]] == choice
        with pytest.raises(SystemExit):
            parser_of(name).parse_args([option, "other"])
        assert f"Argument {option}: invalid choice: 'other'" in capsys.readouterr().err


def test_help_is_printed(capsys):
    for word in ("-h", "--help"):
        with pytest.raises(SystemExit) as ended:
            parser_of(EXAMPLES[0]).parse_args([word])
        assert ended.value.code == 0 and "--crossfade" in capsys.readouterr().out


class Stream(io.StringIO):
    """Counts how often what was printed is sent on."""

    flushed = 0

    def flush(self):
        self.flushed += 1


def test_help_goes_where_it_is_asked_for(monkeypatch):
    parser, out = parser_of(EXAMPLES[0]), Stream()
    monkeypatch.setattr(sys, "stdout", out)
    parser.print_help()
    assert out.getvalue() == parser.format_help() and out.flushed
    other = Stream()
    parser.print_help(other)
    assert other.getvalue() == parser.format_help() == out.getvalue()

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError
    parser.print_help(Closed())


def test_a_description_is_one_line_or_none(capsys):
    for description, line in (("\nTwo lines.\nThe other one.", "Two lines."), ("One.", "One."),
                              (None, "")):
        parser = option_parser(description, "output/x", "acoustic_only")
        assert parser.description == line
    parser.prog = "script.py"
    assert parser.format_help().startswith("usage: script.py [options]\n")
    with pytest.raises(SystemExit):
        parser.error("the end is wrong.")
    assert capsys.readouterr().err == "error: The end is wrong.\n"


def test_a_number_is_an_int_or_a_float():
    assert number(int, 1, 9)("9") == 9 and isinstance(number(float, 1, 9)("9"), float)


def test_given_options_are_those_that_differ_and_become_words_again():
    parser = parser_of(EXAMPLES[0])
    words = ["--sounds", "a b", "c", "--trim", "--mix", "book", "--scale", "0.5"]
    options = parser.parse_args(words)
    options.defaults = vars(parser.parse_args([]))
    options.more = "which no parser knows"
    assert given(options) == {"sounds": ["a b", "c"], "trim": True, "mix": "book", "scale": 0.5}
    assert words_of(given(options)) == words
    assert words_of({"seconds_per_instrument": 2.0}) == ["--seconds-per-instrument", "2.0"]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
