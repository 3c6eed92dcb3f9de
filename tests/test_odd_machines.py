"""Programs start without a home folder, with read-only packages, and on an unsupported Python."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
NOBODY = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]


@pytest.mark.skipif(not shutil.which("setpriv") or os.name == "nt" or os.geteuid() != 0,
                    reason="needs root to become another user")
@pytest.mark.parametrize("home", [{}, {"HOME": "/"}])
def test_start_without_a_writable_home_lets_libraries_keep_caches(home):
    program = ("from companion.start import start; start()\n"
               "import bokeh, librosa, matplotlib.pyplot, note_seq, numpy as np, os\n"
               "librosa.util.localmax(np.arange(9.0))\n"  # Numba writes its cache
               "print(os.environ['HOME'])")
    reads = subprocess.run([*NOBODY, sys.executable, "-c", "import companion.start, numpy"],
                           cwd=PROJECT, capture_output=True)
    if reads.returncode:
        pytest.skip("another user cannot read the packages")
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o777)
    try:
        done = subprocess.run([*NOBODY, sys.executable, "-c", program], capture_output=True,
                              text=True, cwd=PROJECT,
                              env={"PATH": os.environ["PATH"], "TMPDIR": folder, **home})
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().startswith(folder)
        assert not os.path.exists(done.stdout.strip())  # removed at the end
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("package", ["google_crc32c", "markupsafe", "librosa"])
def test_start_missing_package_is_named_with_the_command(package):
    program = (f"import importlib.util as u; find = u.find_spec; "
               f"u.find_spec = lambda name: None if name == {package!r} else find(name)\n"
               "from companion.start import start; start()")
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True,
                          text=True)
    assert done.returncode == 1 and package in done.stderr and "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_start_old_python_is_one_sentence():
    program = "import sys; sys.version_info = (3, 9); from companion.start import start; start()"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True,
                          text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "3.10" in done.stderr


@pytest.mark.parametrize("name", ["chapter_05_example_01.py", "chapter_05_example_02.py",
                                  "companion/__init__.py", "companion/start.py",
                                  "workshop/__init__.py", "workshop/__main__.py"])
def test_files_read_before_the_version_check_compile_on_an_old_python(name):
    text = (PROJECT / name).read_text("utf-8")
    ast.parse(text, feature_version=(3, 8))
    # A script's annotations are read after the check
    assert "chapter" in name or "from __future__ import annotations" in text or len(text) < 100
