from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built through the source distribution, as for a release."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run(
        [*command, str(CHECKOUT)], capture_output=True, text=True, check=False, cwd=out
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )
    site = next((home / "lib").glob("python*/site-packages"))
    # Behind the environment's own packages, and without this environment's .pth files, which
    # would bring the checkout back.
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return home


def run(
    installed: Path, cwd: Path, *arguments: str, command: str = "bench"
) -> subprocess.CompletedProcess[str]:
    """A command of the fresh environment, which no PYTHONPATH leads back to the checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "PYTHON"))}
    environment |= {"OMP_NUM_THREADS": "1", "BENCH_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [str(installed / "bin" / command), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_carries_plugins_and_settings_and_no_top_level_datasets(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("methods/padim.py", "datasets/mtd/split.csv", "bench.toml"):
        assert f"bench/builtin/{wanted}" in names
    assert "bench/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"bench", "flawbench"}


def test_the_installed_wheel_lists_and_plans_far_from_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    listed = run(installed, tmp_path, "list")
    assert listed.returncode == 0, listed.stderr
    assert "pyramidflow" in listed.stdout
    planned = run(
        installed,
        tmp_path,
        "run",
        "-m",
        "padim",
        "-d",
        "synthetic",
        "--preset",
        "quick",
        "--dry-run",
    )
    assert planned.returncode == 0, planned.stderr
    where = "import bench, importlib.util as u; print(bench.__file__, u.find_spec('datasets'))"
    done = run(installed, tmp_path, "-c", where, command="python")
    assert str(installed) in done.stdout, done.stderr


def test_the_installed_wheel_runs_a_cell_of_a_project_of_its_own(
    installed: Path, tmp_path: Path
) -> None:
    assert run(installed, tmp_path, "init", "mine").returncode == 0
    done = run(
        installed,
        tmp_path / "mine",
        *("run", "-m", "mean_image", "--preset", "quick", "-c", "weave", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mine" / "results" / "synthetic" / "mean_image.csv").is_file()
