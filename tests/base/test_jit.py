"""A change in any kernel must never be answered by code compiled before it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from counterpoint.base.jit import KEPT_MAX, keep_compiled, sources_digest

INNER = "from counterpoint.base.jit import njit\n\n@njit\ndef step(x):\n    return x + {}\n"
OUTER = """\
from counterpoint.base.jit import njit
from kernels.inner import step

@njit
def run(x):
    return step(x) * 2
"""
MAIN = """\
import numba
from pathlib import Path
from counterpoint.base.jit import keep_compiled
numba.config.CACHE_DIR = str(keep_compiled(Path("kernels"), Path("none")))
from kernels.outer import run
print(run(1))
"""


def test_a_change_of_an_inner_kernel_is_compiled_again(tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "outer.py").write_text(OUTER)
    (tmp_path / "main.py").write_text(textwrap.dedent(MAIN))

    def answer(added: int) -> str:
        (package / "inner.py").write_text(INNER.format(added))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        ran = subprocess.run(
            [sys.executable, "main.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.strip()

    assert [answer(10), answer(10), answer(20)] == ["22", "22", "42"]


def test_the_digest_follows_kernels_alone(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("# njit\n")
    (tmp_path / "plain.py").write_text("x = 1\n")
    before = sources_digest(tmp_path)
    (tmp_path / "plain.py").write_text("x = 2\n")
    assert sources_digest(tmp_path) == before
    (tmp_path / "kernel.py").write_text("# njit, changed\n")
    assert sources_digest(tmp_path) != before


def test_old_folders_go_and_a_read_only_package_falls_back(tmp_path: Path) -> None:
    package, fallback = tmp_path / "package", tmp_path / "home"
    package.mkdir()
    for version in range(KEPT_MAX + 3):
        (package / "kernel.py").write_text(f"# njit {version}\n")
        folder = keep_compiled(package, fallback)
        assert folder is not None
        os.utime(folder, (version, version))
    kept = sorted(path.name for path in (package / "__pycache__").glob("kernels-*"))
    assert len(kept) == KEPT_MAX
    assert f"kernels-{sources_digest(package)}" in kept

    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "__pycache__").write_text("a file where the folder should be")
    assert keep_compiled(sealed, fallback) == fallback / f"kernels-{sources_digest(sealed)}"
