"""Fitting to files of measurements and judging profiles, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from costmodel import cost, load_profile
from nas.calibrating import calibrate_file, validate, write_profile
from nas.cli import main
from nas.expiry import stale
from nas.loading import load_space
from space.errors import InputError


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Products on two devices, by a law that the profiles don't hold."""
    path = tmp_path / "gemm.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as out:
        lines = csv.writer(out)
        lines.writerow(["device", "dtype", "m", "n", "k", "latency_us"])
        for device, rate in (("h100-sxm", 4e14), ("l40s", 1.5e14)):
            for _ in range(120):
                m, n, k = (int(2.0 ** rng.integers(5, 13)) for _ in range(3))
                lines.writerow([device, "fp16", m, n, k, 6 + 2 * m * n * k / rate * 1e6 + 2 * n * k / 1e12 * 1e6])
    return path


def test_fit_and_judge_by_the_command_line(products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    fit = ["calibrate", "--measurements", str(products), "--hardware", "l40s", "--out", str(out), "--json"]
    assert main(fit) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["classes"]["matmul"]["n"] == 120
    assert main(["validate-cost", "--hardware", str(out), "--measurements", str(products), "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["classes"]["matmul"]
    assert set(judged) >= {"n", "mape", "median_ape", "within_10", "tau", "band_tau"}
    assert judged["n"] == 120
    assert judged["mape"] < 0.05 < judged["roofline_mape"]
    assert main(["validate-cost", "--hardware", str(out), "--measurements", str(products)]) == 0
    assert "matmul" in capsys.readouterr().out
    assert main(["hardware", str(out)]) == 0
    assert "calibrated on l40s" in capsys.readouterr().out


def test_a_written_profile_loads_as_it_was(products: Path, tmp_path: Path) -> None:
    profile = calibrate_file(products, "h100-sxm", tmp_path / "again.yaml")
    write_profile(profile, tmp_path / "again.yaml")
    assert load_profile(tmp_path / "again.yaml") == profile
    assert profile.name == "again"


def test_an_expired_calibration_says_so(products: Path, tmp_path: Path) -> None:
    profile = calibrate_file(products, "l40s", tmp_path / "old.yaml")
    assert stale(profile) == ""
    made = profile.calibration
    assert made is not None
    old = profile.model_copy(update={"calibration": made.model_copy(update={"fingerprint": {"torch": "1.0"}})})
    assert "expired (torch: was 1.0, is" in stale(old)
    with pytest.warns(UserWarning, match="run `nas calibrate` again"):
        validate(old, products)


def test_whole_networks_from_ten_runs_on(tmp_path: Path) -> None:
    space = load_space("examples/pocket-vision.yaml")
    lines = []
    for seed in range(14):
        architecture = space.sample(seed)
        seconds = 3 * cost(architecture, ["x86-core"]).hardware["x86-core"].latency_s
        lines.append(json.dumps({"architecture": architecture.document, "batch": 1, "latency_s": seconds}))
    path, few = tmp_path / "runs.jsonl", tmp_path / "few.jsonl"
    path.write_text("\n".join(lines))
    few.write_text("\n".join(lines[:9]))
    assert validate("x86-core", path)["classes"]["model"]["mape"] == pytest.approx(2 / 3, rel=1e-6)
    profile = calibrate_file(path, "x86-core", tmp_path / "mine.yaml")
    assert validate(profile, path)["classes"]["model"]["mape"] < 0.1
    with pytest.raises(InputError, match="9 runs; whole networks need at least 10"):
        calibrate_file(few, "x86-core", tmp_path / "mine.yaml")


def test_whole_transformers_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "models.csv"
    path.write_text(
        "device,dtype,model,phase,batch,length,layers,dim,heads,mlp_dim,vocab,latency_ms\n"
        "t4,float32,bert_tiny,inference,2,32,2,64,2,256,100,1.0\nt4,float32,gpt_tiny,training,2,32,2,64,2,256,100,3.0\n"
    )
    assert validate("t4", path)["classes"]["model"]["n"] == 2


WRONG = {
    "device,dtype,m,n,k,latency_us\nl40s,fp16,1,2,x,3\n": ":2: k needs a number; got 'x'",
    "device,dtype,m,n,k,latency_us\nl40s,fp16,1,2,-3,3\n": "k needs a number above zero",
    "device,dtype,m,n,k,latency_us\nl40s,fp17,1,2,3,3\n": "unknown dtype 'fp17'",
    "device,dtype,m,n,k,latency_us\n": "no rows below the header",
    "a,b\n1,2\n": "aren't those of measurements",
    "device,dtype,m,n,k,latency_us\na,fp16,1,2,3,3\nb,fp16,1,2,3,3\n": "the file measures: a, b",
    "device,dtype,m,n,k,latency_us\nl40s,fp16,1,2,3,3\n": "1 rows; a class needs at least 4",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_csv_is_refused_in_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text(text)
    out = str(tmp_path / "out.yaml")
    assert main(["calibrate", "--measurements", str(path), "--hardware", "l40s", "--out", out]) == 2
    told = capsys.readouterr().err
    assert WRONG[text] in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a line of JSON"),
        ('{"architecture": "bert_base"}', "expected"),
        ('{"architecture": "bert_base", "latency_s": -1}', "above zero"),
        ('{"architecture": "bert_base", "latency_s": 1, "lenght": 3}', "unknown key 'lenght'"),
        ('{"architecture": "bert_base", "latency_s": 1, "phase": "x"}', "unknown phase"),
        ('{"architecture": "bert_base", "latency_s": 1, "batch": 0}', "batch needs a whole number"),
    ],
)
def test_a_wrong_line_of_runs_is_refused(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        validate("x86-core", path)
