"""The folder as a whole: what stands in it, and what happens to what stood there before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nas.export import Card, export_folder, export_module, exporters
from nas.export.folder import read_config
from space import Architecture, ExportError, InputError, NameUnknown, load_space
from tests.nas.export.allowed import objections
from tests.nas.export.outside import differences, sample_io

HOSTILE = 'x"""\n# not a heading\n../../etc <script>alert(1)</script> | `rm` ${HOME} {0} \\N{BULLET}\x00\u2028'
FILES = {"MODEL_CARD.md", "config.json", "model.py", "model.safetensors"}


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return load_space("examples/pocket-vision.yaml").sample(seed=3)


@pytest.fixture
def card() -> Card:
    return Card(
        study="pocket",
        trial=7,
        task={"name": "digits", "options": {"shift": True}},
        data="Which of ten digits an image shows.",
        splits={"train": 1077, "validation": 360, "test": 360},
        preprocessing="grey levels 0 to 16 become x / 8 - 1",
        scores={"validation": {"accuracy": 0.975, "loss": 0.1}, "test": {"accuracy": 0.9611, "loss": 0.125}},
        training={"steps": 300, "batch": 64, "learning_rate": 4e-3, "seed": 0, "seconds": None},
        cost={
            "macs": 1_234_567,
            "hardware": {
                "stm32f746": {
                    "latency_s": {"low": 0.01, "expected": 0.0123, "high": 0.02},
                    "energy_j": 2e-3,
                    "peak_memory_bytes": 34_100,
                    "fits": True,
                    "bound": "compute",
                }
            },
        },
        reproduce=("nas run pocket-vision.yaml --trials 60", "nas export pocket 7 --out out"),
    )


def test_trained_weights_give_the_same_logits_elsewhere(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    model = architecture.build()
    out = export_module(architecture, model.state_dict(), tmp_path / "deep" / "out", card)
    assert {path.name for path in out.iterdir()} == FILES
    sample_io(model, torch.randn(3, 1, 8, 8), out)
    assert differences([out]) == {"out": 0.0}


def test_the_card_holds_the_facts(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    text = (
        export_module(architecture, architecture.build().state_dict(), tmp_path / "out", card) / "MODEL_CARD.md"
    ).read_text()
    parameters = sum(p.numel() for p in architecture.build().parameters())
    for fact in (
        f"{parameters:,}", "1,234,567", "0.9611", "0.9750", "12.3 ms", "2 mJ", "34.1 KB", "1,077", "| 0.004 |",
        "x / 8 - 1", "    nas run pocket-vision.yaml --trials 60", "float32 [B, 1, 8, 8]", "torch.randn(1, 1, 8, 8)",
        architecture.id,
    ):  # fmt: skip
        assert fact in text
    assert "random" not in text


def test_the_config_builds_the_architecture_again(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    out = export_module(architecture, None, tmp_path / "out", card)
    config = json.loads((out / "config.json").read_text())
    assert Architecture.from_document(config["architecture"], config["picks"]).id == config["id"] == architecture.id
    assert config["picks"] == dict(architecture.picks)
    assert config["scores"]["test"]["accuracy"] == 0.9611
    assert config["formats"] == ["module"]
    assert set(config["files"]) == FILES - {"config.json"}


def test_without_weights_the_card_says_so(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    out = export_module(architecture, None, tmp_path / "out", card)
    text = (out / "MODEL_CARD.md").read_text()
    assert "Its weights are random" in text
    assert "0.9611" not in text
    again = export_module(architecture, None, tmp_path / "again", card)
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in FILES)


def test_weights_come_from_a_file_too(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    first = export_module(architecture, architecture.build().state_dict(), tmp_path / "a", card)
    second = export_module(architecture, first / "model.safetensors", tmp_path / "b", card)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_hostile_text_stays_text(architecture: Architecture, tmp_path: Path) -> None:
    hostile = Card(
        study=HOSTILE,
        trial=1,
        task={"name": HOSTILE, "options": {"path": HOSTILE}},
        data=HOSTILE,
        preprocessing=HOSTILE,
        splits={HOSTILE: 1},
        scores={"test": {HOSTILE: 0.5}},
        training={HOSTILE: HOSTILE},
        reproduce=(HOSTILE,),
    )
    out = export_module(architecture, architecture.build().state_dict(), tmp_path / "out", hostile)
    assert objections((out / "model.py").read_text()) == []
    assert json.loads((out / "config.json").read_text())["study"] == HOSTILE
    text = (out / "MODEL_CARD.md").read_text()
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert [line for line in prose if "<" in line or line.startswith("# not") or "\x00" in line] == []
    headings = [line for line in prose if line.startswith("#")]
    assert len(headings) == len(set(headings)) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("prepare", ["file", "strange", "extra", "link", "broken"])
def test_a_folder_that_is_not_ours_is_left_alone(
    prepare: str, architecture: Architecture, card: Card, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if prepare == "file":
        out.write_text("mine")
    elif prepare == "strange":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    elif prepare == "broken":
        out.mkdir()
        (out / "config.json").write_text('{"blockwright_export": true')
    else:
        export_module(architecture, None, tmp_path / "first", card)
        if prepare == "link":
            out.symlink_to(tmp_path / "first")
        else:
            (tmp_path / "first" / "notes.txt").write_text("mine")
            os.rename(tmp_path / "first", out)
    before = _snapshot(tmp_path)
    with pytest.raises(InputError, match="not an earlier export"):
        export_module(architecture, None, out, card, overwrite=True)
    assert _snapshot(tmp_path) == before


def test_an_earlier_export_goes_only_when_allowed(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    out = export_module(architecture, None, tmp_path / "out", card)
    before = _snapshot(tmp_path)
    with pytest.raises(InputError, match="allow it to be overwritten"):
        export_module(architecture, None, out, card)
    assert _snapshot(tmp_path) == before
    (out / "__pycache__").mkdir()
    other = load_space("examples/pocket-vision.yaml").sample(seed=4)
    export_module(other, None, out, card, overwrite=True)
    config = read_config(out)
    assert config is not None
    assert config["id"] == other.id
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert read_config(export_module(architecture, None, tmp_path / "out", card)) is not None


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    "at",
    ["nas.export.module.module_source", "nas.export.module.save_weights", "nas.export.folder.card_text", "os.rename"],
)
def test_an_interrupted_export_leaves_everything_as_it_was(
    at: str,
    fault: BaseException,
    architecture: Architecture,
    card: Card,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = export_module(architecture, None, tmp_path / "out", card)
    before = _snapshot(tmp_path)

    def fail(*args: object) -> None:
        raise fault

    for target in (out, tmp_path / "new"):
        with monkeypatch.context() as patch:
            patch.setattr(
                "nas.export.folder.os" if at == "os.rename" else at, _only_rename(fail) if at == "os.rename" else fail
            )
            with pytest.raises((KeyboardInterrupt, ExportError)):
                export_module(architecture, None, target, card, overwrite=True)
        assert _snapshot(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_one_line(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="can't write") as caught:
        export_module(architecture, None, tmp_path / "file" / "out", card)
    assert "\n" not in str(caught.value)


def test_wrong_weights_and_formats_are_refused(architecture: Architecture, card: Card, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x80pickle")
    other = load_space("examples/recall.yaml").sample(seed=0).build().state_dict()
    with pytest.raises(InputError, match="can't read the weights"):
        export_module(architecture, tmp_path / "bad.safetensors", tmp_path / "out", card)
    with pytest.raises(InputError, match="not of this architecture"):
        export_module(architecture, other, tmp_path / "out", card)
    with pytest.raises(NameUnknown, match="did you mean 'module'"):
        export_folder(architecture, None, tmp_path / "out", card, formats=("modul",))
    assert not (tmp_path / "out").exists()


def test_formats_are_listed() -> None:
    assert "module" in exporters.all()
    assert "plain torch" in exporters.summaries()["module"]


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _only_rename(fail: object) -> SimpleNamespace:
    return SimpleNamespace(path=os.path, fsync=os.fsync, rename=fail)


def test_the_deployed_form_is_folded_and_gives_the_same_logits(card: Card, tmp_path: Path) -> None:
    document = {
        "blockwright": 1,
        "input": {"kind": "image", "shape": [3, 16, 16]},
        "architecture": {
            "sequence": {
                "blocks": [
                    {"conv_bn": {"dim": 8, "stride": 2}},
                    {"repmixer": {"kernel": 3}},
                    {"residual": {"block": {"conv_ffn": {"kernel": 3}}}},
                    {"classifier": {"classes": 5}},
                ]
            }
        },
    }
    folded = Architecture.from_document(document)
    torch.manual_seed(0)
    model = folded.build().train()
    with torch.no_grad():
        model(torch.randn(8, 3, 16, 16))
    model.eval()
    out = export_folder(folded, model.state_dict(), tmp_path / "out", card, deployed=True)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["parameters"] < sum(p.numel() for p in model.parameters())
    assert "BatchNorm" not in (out / "model.py").read_text(encoding="utf-8").split("def build_model")[1]
    sample_io(model, torch.randn(3, 3, 16, 16), out)
    assert differences([out])["out"] < 1e-5
    assert Architecture.from_document(config["architecture"]).id == config["id"] != folded.id
