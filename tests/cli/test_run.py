from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Callable

    Bench = Callable[..., subprocess.CompletedProcess[str]]

QUICK = ("--dataset", "tiny", "--device", "cpu", "--threads", "1")


def test_a_run_leaves_rows_a_table_and_artifacts_and_a_rerun_skips_them(
    project: Path, bench: Bench
) -> None:
    first = bench("run", "--method", "mean", *QUICK)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "image AUROC" in first.stdout
    assert "mean" in first.stdout
    rows = ResultStore(project / "results").rows()
    assert [row.category for row in rows] == ["left", "right"]
    assert all(row.image_auroc == 1.0 and row.fps and row.epoch == 2 for row in rows)
    assert all(row.command.startswith("bench run --method mean") for row in rows)
    again = bench("run", "--method", "mean", *QUICK)
    assert again.returncode == 0
    assert "2 of 2 cells have a row already" in again.stdout
    assert ResultStore(project / "results").rows() == rows
    png = bench("show", rows[0].cell[:6], "--out", "look.png")
    assert png.returncode == 0, png.stderr
    assert (project / "look.png").read_bytes().startswith(b"\x89PNG")
    status = bench("status")
    assert "pixel AUROC" in status.stdout


def test_the_same_seed_gives_the_same_scores_in_another_process(
    project: Path, bench: Bench
) -> None:
    scores = []
    for folder in ("a", "b"):
        options = ("--category", "left", "--results", folder)
        done = bench("run", "--method", "mean", *QUICK, *options)
        assert done.returncode == 0, done.stderr
        (row,) = ResultStore(project / folder).rows()
        scores.append((row.cell, row.image_auroc, row.pixel_ap, row.aupro_30, row.weights))
    assert scores[0] == scores[1]


def test_a_run_in_tf32_is_another_cell_and_its_row_says_so(project: Path, bench: Bench) -> None:
    options = (*QUICK, "-c", "left")
    for more in ((), ("--precision", "tf32")):
        assert bench("run", "-m", "mean", *options, *more).returncode == 0
    rows = ResultStore(project / "results").rows()
    assert sorted(row.precision for row in rows) == ["float32", "tf32"]
    assert len({row.cell for row in rows}) == 2


def test_a_rerun_after_an_edit_says_whose_rows_are_old_and_makes_them_again(
    project: Path, bench: Bench
) -> None:
    options = ("-m", "mean", *QUICK, "-c", "left")
    assert bench("run", *options).returncode == 0
    (old,) = ResultStore(project / "results").rows()
    file = project / "methods" / "mean.py"
    file.write_text(file.read_text().replace(".abs()", ".square()"))
    again = bench("run", *options)
    assert "1 row below was made by other code of mean" in again.stdout
    assert ResultStore(project / "results").rows() == [old]
    command = next(line for line in again.stdout.splitlines() if "other code" in line)
    words = command.partition("make them again: bench ")[2].partition(" ; ")[0].split()
    assert "finished, by other code" in bench("run", *options, "--dry-run").stdout
    assert bench(*words).returncode == 0
    (new,) = ResultStore(project / "results").rows()
    assert (new.cell, new.code != old.code) == (old.cell, True)
    assert "other code" not in bench("run", *options).stdout


def test_failed_cells_are_named_and_kept_and_the_others_go_on(project: Path, bench: Bench) -> None:
    names = "dies,crashes,raises,not_finite,mean"
    done = bench("run", "-m", names, *QUICK, "-c", "left")
    assert done.returncode == 1
    assert [row.method for row in ResultStore(project / "results").rows()] == ["mean"]
    for text in (
        "exited with status 9",
        "ended by SIGSEGV",
        "ZeroDivisionError: on purpose",
    ):
        assert text in done.stdout, done.stdout
    logs = {f.read_text().split(" ")[0]: f.read_text() for f in failures(project)}
    assert set(logs) == {"dies", "crashes", "raises", "not_finite"}
    assert "Traceback" in logs["raises"]
    assert "test/good/0.png" in logs["not_finite"]
    assert "FAILED" in bench("status").stdout


def test_a_run_that_times_nothing_has_scores_and_no_times(project: Path, bench: Bench) -> None:
    done = bench("run", "-m", "mean", *QUICK, "-c", "left", "--speed", "none")
    assert done.returncode == 0, done.stderr
    (row,) = ResultStore(project / "results").rows()
    assert (row.image_auroc, row.speed) == (1.0, "")
    assert (row.fps, row.latency_p50_ms, row.fit_s, row.fit_cpu_s) == (None,) * 4
    assert row.gflops is not None
    assert row.fit_mb is not None


def test_a_cell_that_never_ends_is_ended(project: Path, bench: Bench) -> None:
    done = bench("run", "-m", "hangs", *QUICK, "-c", "left", "--timeout", "3")
    assert done.returncode == 1
    assert "no result within 3 s" in done.stdout


def failures(project: Path) -> list[Path]:
    return sorted((project / "results" / "failures").glob("*.txt"))


def test_a_cell_that_succeeds_later_loses_its_failure(project: Path, bench: Bench) -> None:
    options = (*QUICK, "-c", "left")
    assert bench("run", "-m", "raises", *options).returncode == 1
    file = project / "methods" / "raises.py"
    file.write_text(file.read_text().replace("raise ZeroDivisionError('on purpose')", "pass"))
    assert bench("run", "-m", "raises", *options).returncode == 0
    assert failures(project) == []


def test_a_dry_run_prints_the_plan_and_writes_nothing(project: Path, bench: Bench) -> None:
    done = bench("run", "-m", "mean", *QUICK, "--seeds", "0,1", "--set", "gain=2", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 cells, 4 to run" in done.stdout
    assert '"gain":2.0' in done.stdout
    assert not (project / "results").exists()


PROTOCOLS = """
[protocols.native]
resize = [32, 32]
mask_size = "native"
[protocols.twin]
resize = [32, 32]
"""


def test_protocols_that_agree_until_prediction_are_trained_for_once(
    project: Path, bench: Bench
) -> None:
    with (project / "bench.toml").open("a", encoding="utf-8") as stream:
        stream.write(PROTOCOLS)
    options = ("run", "-m", "mean,raises", *QUICK, "-c", "left", "--protocol", "small,native")
    assert "4 cells, 4 to run in 2 trainings" in bench(*options, "--dry-run").stdout
    done = bench(*options)
    assert done.returncode == 1
    assert "mean tiny/left seed 0, small + native: reading" in done.stdout
    for name in ("small", "native"):
        assert f"raises tiny/left seed 0, {name}: ZeroDivisionError: on purpose" in done.stdout
        assert f"mean tiny/left seed 0, {name}: image AUROC 100.0" in done.stdout
    small, native = sorted(
        ResultStore(project / "results").rows(), key=lambda row: row.protocol, reverse=True
    )
    assert (small.trained_with, native.trained_with) == ("", small.cell)
    assert native.fit_s == small.fit_s
    assert "2 of 4 cells have a row already" in bench(*options).stdout
    refused = bench("run", "-m", "mean", *QUICK, "--protocol", "small,twin")
    assert refused.returncode == 2
    assert "small and twin make the same choices; name one" in refused.stderr


def test_a_list_of_protocols_without_a_name_is_refused(bench: Bench) -> None:
    done = bench("run", "-m", "mean", "-d", "tiny", "--protocol", ",")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--protocol names no protocol" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "meam", "-d", "tiny"), "did you mean 'mean'"),
        (("-m", "mean", "-d", "tinny"), "did you mean 'tiny'"),
        (("-m", "mean", "-d", "tiny", "-c", "lefft"), "did you mean 'left'"),
        (("-m", "mean", "-d", "tiny", "--protocol", "standart"), "did you mean 'standard'"),
        (("-m", "mean", "-d", "tiny", "--preset", "quik"), "did you mean 'quick'"),
        (("-m", "mean", "-d", "tiny", "--set", "gaim=2"), "did you mean 'gain'"),
        (("-m", "mean", "-d", "tiny", "--set", "gain=big"), "is not a number"),
        (("-m", "mean", "-d", "tiny", "--set", "gain"), "write key=value"),
        (("-m", "mean", "-d", "tiny", "--seeds", "a"), "write whole numbers"),
        (("-m", "mean", "-d", "tiny", "--speed", "sped-1"), "did you mean 'speed-1'"),
        (("-m", "mean", "-d", "tiny", "--weights", "no.pth"), "no.pth is not a file"),
        (("-m", "mean", "-d", "tiny", "--weights", "bench.toml"), "no selected method uses a"),
        (("-m", "mean", "-d", "tiny", "--device", "gpu"), "use auto, cpu, cuda or cuda:N"),
        (("-m", "mean", "-d", "tiny", "--speed", "brif", "--dry-run"), "did you mean 'brief'"),
        (("-m", "pyramidflow", "-d", "tiny", "--set", "volume_norm=cnv"), "did you mean 'cvn'"),
        (("-m", "mean", "-d", "btad"), "btad"),
        (("-m", "mean", "-d", "tiny", "--wrkers", "2"), "--workers"),
    ],
)
def test_bad_input_is_one_line_with_the_nearest_name_and_exit_code_2(
    bench: Bench, arguments: tuple[str, ...], message: str
) -> None:
    done = bench("run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[methods.meam]\ngain = 2.0", "did you mean 'mean'"),
        ("[datasets.tinny]\ncount = 2", "did you mean 'tiny'"),
        ('[methods.mean."tinny/left"]\ngain = 2.0', "did you mean 'tiny'"),
        ("[presets.quick.run]\nbatch = 0", "[run].batch = 0"),
        ('[methods.mean."synthetic/wave"]\ngain = 2.0', "did you mean 'weave'"),
        ("[presets.quick.run]\nseeds = [-1]", "[run].seeds = [-1]; 0 or more"),
        ('[methods.mean."mtd/tiles"]\ngain = 2.0', "did you mean 'tile'"),
    ],
)
def test_a_table_that_no_cell_could_use_is_refused(
    project: Path, bench: Bench, table: str, message: str
) -> None:
    (project / "data" / "mtd" / "MT_Free").mkdir(parents=True)
    file = project / "bench.toml"
    file.write_text(f"{file.read_text()}\n{table}\n")
    done = bench("run", "-m", "mean", "-d", "tiny,synthetic,mtd", "--preset", "quick", "--dry-run")
    assert done.returncode == 2
    assert message in done.stderr


def test_a_dry_run_says_which_categories_get_which_settings(project: Path, bench: Bench) -> None:
    file = project / "bench.toml"
    file.write_text(f'{file.read_text()}\n[methods.mean."tiny/left"]\ngain = 2.0\n')
    done = bench("run", "-m", "mean", "-d", "tiny", "--dry-run")
    assert 'mean on tiny/left: {"epochs":2,"gain":2.0}' in done.stdout
    assert 'mean on tiny/right: {"epochs":2,"gain":1.0}' in done.stdout


def test_missing_data_says_where_to_get_it_and_which_setting_names_it(bench: Bench) -> None:
    done = bench("run", "--method", "mean", "--dataset", "btad")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for part in ("--data-root", "[datasets.btad]", "BENCH_DATA"):
        assert part in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_keeps_the_finished_rows_and_the_same_command_resumes(
    project: Path, bench: Bench
) -> None:
    command = [str(Path(sys.executable).parent / "bench"), "run", "-m", "mean,hangs", *QUICK]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("BENCH_PROJECT", None)
    child = subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        assert any("hangs tiny/left seed 0: reading" in line for line in child.stdout)
        child.send_signal(signal.SIGINT)
        # Two signals that come before the first is handled are one.
        assert any("Ctrl-C again" in line for line in child.stdout)
        child.send_signal(signal.SIGINT)
        child.communicate()
    finally:
        child.kill()
    assert child.returncode == 130
    assert len(ResultStore(project / "results").rows()) == 1
    assert not (project / "results" / ".lock").exists()
    resumed = bench("run", "-m", "mean", *QUICK)
    assert "1 of 2 cells have a row already" in resumed.stdout


def test_the_printed_command_works_as_pasted(project: Path, bench: Bench) -> None:
    done = bench("run", "-m", "mean", *QUICK, "-c", "left", "--results", "my rows")
    (line,) = (text for text in done.stdout.splitlines() if "bench show" in text)
    words = shlex.split(line.partition("look at the maps of a cell: ")[2])
    assert words[:2] == ["bench", "show"]
    pasted = bench(*words[1:])
    assert pasted.returncode == 0, pasted.stderr
    assert (project / pasted.stdout.strip()).read_bytes().startswith(b"\x89PNG")


def test_the_command_of_a_new_project_works_as_pasted(tmp_path: Path, bench: Bench) -> None:
    done = bench("init", str(tmp_path / "it's new"))
    line = done.stdout.splitlines()[-1]
    assert line.startswith("try: cd ")
    bound = " --category bolt --seed 0 --speed once"  # the same command, of one cell
    pasted = shell(line.removeprefix("try: ") + bound, tmp_path)
    assert pasted.returncode == 0, pasted.stderr
    assert "look at the maps of a cell: bench show" in pasted.stdout


def test_the_command_that_brings_images_back_works_as_pasted(project: Path, bench: Bench) -> None:
    bench("run", "-m", "mean", *QUICK, "-c", "left", "--results", "my rows")
    (row,) = ResultStore(project / "my rows").rows()
    panels = project / "my rows" / "artifacts" / row.cell / "panels.npz"
    panels.unlink()
    refused = bench("show", row.cell, "--results", "my rows")
    assert refused.returncode == 2
    words = " ".join(refused.stderr.split())
    pasted = shell(words.partition("run it again: ")[2], project)
    assert pasted.returncode == 0, pasted.stderr
    assert panels.is_file()


def test_the_command_for_images_of_ones_own_works_as_pasted(tmp_path: Path, bench: Bench) -> None:
    own = tmp_path / "mvtec here" / "my nuts"
    for folder in ("train/good", "test/good"):
        (own / folder).mkdir(parents=True)
        for index in range(5):
            pixels = np.full((8, 8), 10 * index + len(folder), np.uint8)
            Image.fromarray(pixels).save(own / folder / f"{index}.png")
    (tmp_path / "mvtec here" / "bottle").mkdir()
    up = tmp_path / "mvtec here" / "bottle" / ".."
    done = bench("data", "verify", "mvtec", "--data-root", str(up))
    (line,) = (text for text in done.stdout.splitlines() if "is no category of mvtec" in text)
    assert ".." not in line
    pasted = shell(line.partition("checked by: ")[2], tmp_path)
    assert pasted.returncode == 0, pasted.stdout
    assert "my nuts: 5 train, 5 good" in pasted.stdout


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line as pasted into a shell in a folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("BENCH_PROJECT", None)
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_maps_beyond_the_budget_are_scored_from_a_file_and_the_row_says_so(
    project: Path, bench: Bench
) -> None:
    options = ("run", "--method", "mean", *QUICK, "--category", "left", "--save-maps")
    assert bench(*options, "--results", "inside").returncode == 0
    file = project / "bench.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[run]\n", "[run]\nmap_budget_mb = 0.01\n"), encoding="utf-8")
    done = bench(*options, "--results", "outside")
    assert done.returncode == 0, done.stderr
    assert "12 maps of 0 MB are more than [run].map_budget_mb = 0.01" in done.stdout
    (inside,), (outside,) = (ResultStore(project / f).rows() for f in ("inside", "outside"))
    assert (inside.cell, inside.evaluator) == (outside.cell, "")
    assert outside.evaluator == "spooled"
    for name in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro_30", "aupimo", "pixel_f1max"):
        assert getattr(outside, name) == pytest.approx(getattr(inside, name), abs=1e-12)
    kept = [
        sorted((project / f / "artifacts").glob("*/maps/**/*.npy")) for f in ("inside", "outside")
    ]
    assert len(kept[0]) == len(kept[1]) == 12
    for ours, theirs in zip(*kept, strict=True):
        assert np.array_equal(np.load(ours), np.load(theirs))


def test_kept_maps_are_evaluated_again_without_a_training(project: Path, bench: Bench) -> None:
    options = ("run", "--method", "mean", *QUICK, "--category", "left")
    assert bench(*options).returncode == 0
    refused = bench("rescore")
    assert refused.returncode == 2
    assert "holds no kept maps; `bench run --keep-maps` keeps them" in refused.stderr
    assert bench(*options, "--keep-maps", "--force").returncode == 0
    (before,) = ResultStore(project / "results").rows()
    images = (project / "results/artifacts" / before.cell / "images.csv").read_text().splitlines()
    assert images[0] == "image,defect,label,score,map_max,aupimo"
    assert len(images) == 1 + 12
    assert "1 row unchanged" in bench("rescore", "--dry-run").stdout
    assert ResultStore(project / "results").rows() == [before]
    done = bench("rescore", "--cell", before.cell[:6])
    assert done.returncode == 0, done.stderr
    assert "error at most" in done.stdout
    (after,) = ResultStore(project / "results").rows()
    assert (before.evaluator, after.evaluator) == ("", "rescored")
    assert (after.cell, after.started, after.fps) == (before.cell, before.started, before.fps)
    for name, bound in after.bounds.items():
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=bound + 1e-12)
