"""The command line: JSON on stdout, everything else on stderr, exit codes, no traceback for a user's mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.cli import VERBS, main
from nas.progress import RunProgress
from space import parse_measure
from space.measures import Objective
from store import Store
from tests.nas.stubs import SPACE, StubExecutor, result, write

Stub = Callable[..., StubExecutor]
Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nas:
    """Run a command in an empty folder; exit code, stdout, stderr."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    root = Path.cwd()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delenv("BLOCKWRIGHT_STORE", raising=False)

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main(list(argv))
        except SystemExit as leave:
            status = int(leave.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return run


@pytest.fixture
def study(tmp_path: Path, stub: Stub) -> tuple[str, str]:
    """A finished study: the space file and the store."""
    stub()
    path, url = write(tmp_path), str(tmp_path / "done.db")
    nas.run(path, store=url, trials=6, hardware=("stm32f746",))
    return path, url


def parsed(told: tuple[int, str, str], status: int = 0) -> Any:
    assert told[0] == status, told
    return json.loads(told[1])


def test_run_prints_the_front_and_what_next(cli: Nas, tmp_path: Path, stub: Stub) -> None:
    stub()
    path = write(tmp_path)
    status, out, err = cli("run", path, "--trials", "4")
    assert status == 0
    assert "Pareto front of tiny" in out
    assert "study tiny: 4 complete" in out
    assert " show tiny " in out
    assert "accuracy (max)" in out
    assert err.count(": complete  accuracy 0.") == 4
    assert Path("runs/blockwright.db").exists()
    told = parsed(cli("run", path, "--resume", "--trials", "6", "--json"))
    assert set(told) == {"study", "trials", "hypervolume", "front"}
    assert told["trials"] == {"complete": 6, "failed": 0, "pruned": 0, "infeasible": 0}
    assert set(told["front"][0]) == {"trial", "values", "architecture"}
    assert parsed(cli("pareto", "tiny", "--json")) == told


def test_a_study_without_a_complete_trial_is_a_failed_run(cli: Nas, tmp_path: Path, stub: Stub) -> None:
    stub(lambda job: result("failed", "[red]boom[/red]"))
    path = write(tmp_path)
    status, out, err = cli("run", path, "--trials", "2")
    assert status == 1
    assert "no trial completed" in out
    assert "trial 0: failed  [red]boom[/red]" in err
    assert parsed(cli("run", path, "--trials", "2", "--json"), status=1)["trials"]["failed"] == 2
    assert cli("pareto", "tiny")[1] == "study tiny: no trial is complete yet\n"


def test_verbs_that_read_a_study(cli: Nas, study: tuple[str, str]) -> None:
    _, url = study
    shown = parsed(cli("show", "tiny", "best", "--store", url, "--json"))
    assert {"study", "trial", "state", "values", "measurements", "picks", "architecture", "document"} <= set(shown)
    assert parsed(cli("show", "tiny", str(shown["trial"]), "--store", url, "--json")) == shown
    status, out, _ = cli("show", "tiny", "0", "--store", url)
    assert status == 0
    assert "study tiny, trial 0: complete" in out
    assert "latency@stm32f746" in out
    assert "patch_embed" in out
    status, out, _ = cli("pareto", "tiny", "--store", url)
    assert (status, "hypervolume" in out) == (0, True)


def test_cost_of_a_trial_a_space_and_an_architecture(cli: Nas, study: tuple[str, str], tmp_path: Path) -> None:
    path, url = study
    told = parsed(cli("cost", "tiny:0", "--store", url, "--hardware", "stm32f746", "h100-sxm", "--json"))
    assert set(told) == {
        "architecture", "params", "params_active", "params_deployed", "macs", "macs_executed", "vector_flops",
        "weight_bytes", "state_bytes", "hardware",
    }  # fmt: skip
    assert set(told["hardware"]["h100-sxm"]) == {"latency_s", "energy_j", "peak_memory_bytes", "fits", "bound"}
    file = tmp_path / "arch.yaml"
    file.write_text(nas.Study("tiny", url).architecture(0).to_yaml())
    assert parsed(cli("cost", str(file), "--json"))["architecture"] == told["architecture"]
    by = parsed(cli("cost", str(file), "--hardware", "stm32f746", "--by", "block", "--json"))["by"]
    assert set(by) == {"stm32f746"}
    for situation in (
        ["--phase", "training", "--batch", "8", "--checkpoint"],
        ["--by", "operator", "--hardware", "stm32f746"],
        ["--plan", "--hardware", "stm32f746", "--precision", "weights=int4,activations=int8"],
    ):
        assert cli("cost", str(file), *situation)[0] == 0
    shown = parsed(cli("cost", str(file), "--hardware", "stm32f746", "--view", "memory", "--json"))["view"]
    assert shown["stm32f746"]["steps"]
    status, out, err = cli("cost", path)
    assert status == 0
    assert "is a space; this is its candidate of seed 0" in err
    assert "params" in out


def test_check_tells_size_and_share(cli: Nas, tmp_path: Path) -> None:
    path = write(tmp_path, SPACE + 'constraints: ["params <= 600"]\n')
    status, out, _ = cli("check", path, "--samples", "40")
    assert status == 0
    assert "no mistakes" in out
    assert "architectures" in out
    told = parsed(cli("check", path, "--samples", "40", "--json"))
    assert told["exact"]
    assert 0 < told["feasible"] < 40
    assert told["missed"] == {"params <= 600": 40 - told["feasible"]}
    assert told["ranges"]["params"]["low"] < told["ranges"]["params"]["high"]
    impossible = write(tmp_path, SPACE + 'constraints: ["params <= 3"]\n')
    status, _, err = cli("check", impossible, "--samples", "20")
    assert status == 2
    assert "none of 20 candidates meets the constraints; the nearest: params <= 3 is missed by" in err


def test_listings(cli: Nas) -> None:
    blocks = parsed(cli("blocks", "--json"))
    assert all({"kind", "role", "paper", "causal", "decode", "options"} <= set(b) for b in blocks)
    assert "attention" in {b["kind"] for b in blocks}
    assert cli("blocks")[0] == 0
    assert parsed(cli("blocks", "attention", "--json"))["kind"] == "attention"
    assert "heads" in cli("blocks", "attention")[1]
    assert {t["kind"] for t in parsed(cli("tasks", "--json"))} >= {"digits", "byte_text"}
    assert "digits" in cli("tasks")[1]
    assert {h["name"] for h in parsed(cli("hardware", "--json"))} >= {"stm32f746", "h100-sxm"}
    assert "h100-sxm" in cli("hardware")[1]
    assert parsed(cli("hardware", "h100-sxm", "--json"))["name"] == "h100-sxm"
    assert "source" in cli("hardware", "h100-sxm")[1]
    assert "$schema" in parsed(cli("schema"))
    assert parsed(cli("schema", "--json")) == parsed(cli("schema"))


MISTAKES: list[tuple[list[str], int, str]] = [
    ([], 2, ""),
    (["rnu"], 2, "unknown command 'rnu' (did you mean 'run'?); known: run, check,"),
    (["run"], 2, "the following arguments are required: SPACE.yaml"),
    (["run", "nowhere.yaml"], 2, "nowhere.yaml"),
    (["run", "."], 2, "."),
    (["run", "{space}", "--trials", "0"], 2, "expected a whole number of at least 1; got '0'"),
    (["run", "{space}", "--trials", "ten"], 2, "expected a whole number of at least 1; got 'ten'"),
    (["run", "{space}", "--seed", "-1"], 2, "seed"),
    (["run", "{space}", "--trials", "99999999999"], 2, "trials: expected less than or equal to 10000000"),
    (["run", "{space}", "--strategy", "ngsa2"], 2, "unknown strategy 'ngsa2' (did you mean 'nsga2'?)"),
    (["run", "{space}", "--hardware", "stm32"], 2, "unknown hardware 'stm32'"),
    (["run", "{space}", "--device", "gpu"], 2, "argument --device: invalid choice: 'gpu'"),
    (["run", "{space}", "--resume"], 2, "there is no study of 'tiny' to resume"),
    (["run", "{space}", "--resume", "--name", "tinny"], 2, "unknown study 'tinny'"),
    (["run", "{space}", "--wrokers", "2"], 2, "unrecognized arguments: --wrokers"),
    (["run", "{space}", "--store", "no/such/folder/s.db"], 1, "no/such/folder does not exist"),
    (["run", "{space}", "--store", "{garbage}"], 1, "not a database"),
    (["run", "{space}", "--store", "mysql://x/y"], 1, "unknown kind of database 'mysql'"),
    (["run", "{space}", "--store", "{file}/s.db"], 1, "s.db"),
    (["check", "{garbage}"], 2, "garbage.db"),
    (["cost", "tiny:0"], 1, "runs/blockwright.db: "),
    (["cost", "{space}", "--hardware", "h100"], 2, "unknown hardware 'h100' (did you mean 'h100-sxm'?)"),
    (["cost", "{space}", "--batch", "0"], 2, "at least 1"),
    (["cost", "{space}", "--patches", "2"], 2, "--patches"),
    (["cost", "{space}", "--lengths", "4,x"], 2, "at least 1"),
    (["cost", "{space}", "--precision", "weigths=int4"], 2, "did you mean 'weights'?"),
    (["cost", "{space}", "--view", "memory"], 2, "add --json"),
    (["cost", "tiny:99", "--store", "{store}"], 2, "study 'tiny' has no trial 99; it has 6 trials"),
    (["cost", "tin:0", "--store", "{store}"], 2, "unknown study 'tin' (did you mean 'tiny'?)"),
    (["pareto", "tiny"], 1, "runs/blockwright.db: "),
    (["pareto", "tiny", "--store", "s.db"], 1, "no database there; start a study with `nas run"),
    (["pareto", "tinny", "--store", "{store}"], 2, "unknown study 'tinny' (did you mean 'tiny'?); known: tiny"),
    (["show", "tiny", "99", "--store", "{store}"], 2, "study 'tiny' has no trial 99"),
    (["show", "tiny", "first", "--store", "{store}"], 2, "argument TRIAL"),
    (["show", "tiny", "0", "--store", "{garbage}"], 1, "not a database"),
    (["blocks", "atention"], 2, "did you mean 'attention'?"),
    (["hardware", "h100"], 2, "h100"),
    (["--plugins", "no_such_module", "blocks"], 2, "no_such_module"),
    (["export", "tiny", "99", "--store", "{store}", "--out", "x"], 2, "has no trial 99"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "status", "told"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_one_clear_error(
    cli: Nas, study: tuple[str, str], tmp_path: Path, argv: list[str], status: int, told: str
) -> None:
    path, url = study
    (tmp_path / "garbage.db").write_bytes(b"\x00\x01garbage\xff" * 40)
    places = {"space": path, "store": url, "garbage": tmp_path / "garbage.db", "file": path}
    given = [word.format(**places) for word in argv]
    code, out, err = cli(*given)
    assert (code, told in err) == (status, True), err
    if argv:
        assert out == ""
    if argv and "arguments are required" not in told and code != 2:
        again, out, _ = cli(*given, "--json")
        assert again == status
        assert told in " ".join(json.loads(out)["error"])


def test_a_refused_run_leaves_no_study_behind(cli: Nas, tmp_path: Path, stub: Stub) -> None:
    stub()
    path = write(tmp_path)
    for wrong in (["--strategy", "x"], ["--hardware", "x"], ["--seed", str(2**40)], ["--trials", "99999999999"]):
        assert cli("run", path, *wrong, "--store", "s.db")[0] == 2
    assert not Path("s.db").exists() or not _studies("s.db")


def _studies(url: str) -> list[Any]:
    with Store(url, read_only=True) as store:
        return store.studies()


def test_a_folder_that_can_not_be_made_is_named(cli: Nas, tmp_path: Path, stub: Stub) -> None:
    stub()
    path = write(tmp_path)
    Path("runs").write_text("a file in the way")
    status, _, err = cli("run", path)
    assert status == 1
    assert err.startswith("runs: can't be made (")
    assert err.count("\n") == 1


def test_every_mistake_of_a_file_is_listed(cli: Nas, tmp_path: Path) -> None:
    path = write(tmp_path, SPACE.replace("rms_norm", "rsm_norm").replace("nsga2", "nsga3").replace("max", "up"))
    status, out, err = cli("check", path, "--json")
    assert status == 2
    assert json.loads(out)["error"] == err.splitlines()
    assert len(err.splitlines()) == 3
    assert all(line.startswith(f"{path}:") for line in err.splitlines())


def test_help_is_cheap_and_names_every_verb() -> None:
    code = (
        "import sys, nas.cli\n"
        "try:\n    nas.cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'optuna', 'sqlalchemy', 'streamlit', 'pydantic', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli: Nas, verb: str) -> None:
    status, out, _ = cli(verb, "--help")
    assert status == 0
    assert "--json" in out


def test_version_and_a_plugin_named_like_a_verb(cli: Nas) -> None:
    assert cli("--version") == (0, f"{nas.__version__}\n", "")
    status, _, err = cli("--plugins", "run", "tasks")
    assert status == 2
    assert "run" in err


@pytest.mark.parametrize("argv", [["blocks"], ["schema"]])
def test_a_reader_that_leaves_is_no_error(argv: list[str]) -> None:
    command = [sys.executable, "-m", "nas", *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""
    assert started.returncode in (0, 1)


def test_progress_shows_the_front_on_a_terminal(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stub()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    objectives = [Objective(parse_measure("accuracy"), "max"), Objective(parse_measure("params"), "min")]
    url = str(tmp_path / "s.db")
    with RunProgress(objectives, stream) as progress:
        nas.run(write(tmp_path), store=url, trials=3, listener=progress)
        nas.run(write(tmp_path), store=url, trials=5, listener=progress, resume=True)
    assert "front so far" in stream.getvalue()
    assert "5/5" in stream.getvalue()
    assert {number for number, _ in progress.found} == set(range(5))


@pytest.mark.parametrize("words", [("pareto", "x"), ("show", "x", "best"), ("export", "x", "best", "--out", "o")])
def test_before_the_first_study_it_says_how_to_begin(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BLOCKWRIGHT_STORE", raising=False)
    assert main(list(words)) == 1
    assert "no studies here yet; `nas run SPACE.yaml` begins one" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_presets_are_listed_with_their_counts_as_published(cli: Nas) -> None:
    status, out, _ = cli("presets")
    assert status == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert "5,717,416" in lines["vit_tiny_16"]
    assert "28M" in lines["litv2_s"]
    assert json.loads(cli("presets", "litv2_s", "--json")[1])["published"]["params_rounded"] == "28M"
