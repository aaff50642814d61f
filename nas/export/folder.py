"""An export as a folder: written aside, then renamed, so that there is never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.export.base import Bundle, Exporter, exporters
from nas.export.card import Card, card_text
from nas.export.weights import with_weights
from space import Architecture, ExportError, InputError, deploy, deployed_node

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""Version of `config.json`."""
_MARK = "blockwright_export"


def export_module(
    architecture: Architecture,
    weights: Mapping[str, Tensor] | Path | None,
    out: Path,
    card: Card,
    overwrite: bool = False,
) -> Path:
    """Write an architecture out as a folder of plain PyTorch; see `export_folder`."""
    return export_folder(architecture, weights, out, card, ("module",), overwrite)


def export_folder(
    architecture: Architecture,
    weights: Mapping[str, Tensor] | Path | None,
    out: Path,
    card: Card,
    formats: Sequence[str] = ("module",),
    overwrite: bool = False,
    deployed: bool = False,
) -> Path:
    """Write a folder with the files of each format, `config.json` and `MODEL_CARD.md`; gives its absolute path.

    `weights` is a state by name, a safetensors file, or None for random ones (the card says so). A folder that
    exists is refused, unless it is empty, or an earlier export and `overwrite` is set. `deployed` folds branches and
    norms first: the same outputs in fewer operators, no longer meant for training. Raises InputError for what the
    user can mend, ExportError where the folder can't be written or a block breaks the rules of export.
    """
    import nas

    writers = [exporters.get(name)() for name in dict.fromkeys(formats)]
    out = Path(os.path.abspath(out))
    check_free(out, overwrite)
    model = with_weights(architecture, weights)
    if deployed:
        model = deploy(model)
        document = architecture.document
        folded = document | {"architecture": deployed_node(document["architecture"])}
        architecture = Architecture.from_document(folded, architecture.picks)
    bundle = Bundle(architecture, model, nas.__version__)
    aside = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        _fill(aside, bundle, writers, card, trained=weights is not None)
        _settle(aside, out)
    except OSError as error:
        raise ExportError(
            f"can't write {out}: {error.strerror or error} (is there room, and may you write?)"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def read_config(folder: Path) -> dict[str, Any] | None:
    """`config.json` of an earlier export; None for a folder that isn't one, or holds what no export wrote."""
    try:
        if folder.is_symlink():
            return None
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known = {"config.json", "__pycache__", *config["files"]}
        ours = isinstance(config[_MARK], int) and {entry.name for entry in folder.iterdir()} <= known
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return config if ours else None


def check_free(out: Path, overwrite: bool) -> None:
    """Raise InputError unless an export may be written to `out`."""
    if not os.path.lexists(out):
        return
    if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
        return
    if read_config(out) is None:
        raise InputError(f"{out} exists and is not an earlier export, or holds other files too (choose another folder)")
    if not overwrite:
        raise InputError(f"{out} holds an earlier export (choose another folder, or allow it to be overwritten)")


def _fill(folder: Path, bundle: Bundle, writers: Sequence[Exporter], card: Card, trained: bool) -> None:
    parameters = sum(p.numel() for p in bundle.model.parameters())
    for one in writers:
        one.write(bundle, folder)
    text = card_text(card, bundle.architecture, parameters, trained, bundle.version)
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    config = {
        _MARK: FORMAT,
        "blockwright": bundle.version,
        "formats": [one.name for one in writers],
        "id": bundle.architecture.id,
        "architecture": bundle.architecture.document,
        "picks": dict(bundle.architecture.picks),
        "parameters": parameters,
        "trained": trained,
        "study": card.study,
        "trial": card.trial,
        "task": dict(card.task),
        "preprocessing": card.preprocessing,
        "scores": {part: dict(scores) for part, scores in card.scores.items()},
        "training": dict(card.training),
        "cost": dict(card.cost),
        "files": {path.name: _fingerprint(path) for path in sorted(folder.iterdir())},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _fingerprint(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _settle(aside: Path, out: Path) -> None:
    """Move the finished folder to its place; what stood there goes only once the new one stands."""
    if not os.path.lexists(out):
        os.rename(aside, out)
        return
    old = aside.with_name(f"{aside.name}.old")
    os.rename(out, old)
    try:
        os.rename(aside, out)
    except BaseException:
        os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
