"""Transformer in transformer: against its formula, and published sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from costmodel import cost
from costmodel.blocks import node_table
from costmodel.table import KIND, C
from space import load_space
from space.block import infer_shape, instantiate, parse_node
from space.errors import ShapeError
from space.shape import Shape

IMAGE = Shape("grid", 3, height=8, width=12)
LAYER = {"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 1.0}}}}
OPTIONS = {
    "dim": 8,
    "inner_dim": 4,
    "patch": 4,
    "stride": 2,
    "kernel": 3,
    "times": 2,
    "inner": [LAYER],
    "outer": [LAYER],
}


def built(**options: object) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    block = instantiate({"nested_tokens": {**OPTIONS, **options}}, IMAGE).double()
    return block, torch.randn(2, 3, 8, 12, dtype=torch.float64)


@pytest.mark.paper("tnt")
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("padded", ["patch", "image"])
@pytest.mark.parametrize("fuse", ["joined", "words"])
def test_equals_a_loop_over_patches(padded: str, fuse: str, class_token: bool) -> None:
    block, x = built(padded=padded, fuse=fuse, class_token=class_token)
    whole = F.conv2d(x, block.conv.weight, block.conv.bias, 2, 1)
    streams = []
    for i in range(2):
        for j in range(3):
            if padded == "image":
                words = whole[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            else:
                words = F.conv2d(
                    x[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4], block.conv.weight, block.conv.bias, 2, 1
                )
            streams.append(words.reshape(2, 4, 4).transpose(1, 2) + block.word_position)

    def fused(part: torch.nn.Module, words: torch.Tensor, joined: bool) -> torch.Tensor:
        if joined:
            return part.out_norm(part.project(part.norm(words.reshape(2, 16))))
        return part.project(torch.cat([part.norm(words[:, k]) for k in range(4)], dim=1))

    rows = [fused(block.embed, words, True) for words in streams]
    first = 1 if class_token else 0
    y = torch.stack(([block.token[0].expand(2, 8)] if class_token else []) + rows, dim=1) + block.position
    for layer in range(2):
        streams = [block.inner[layer](words) for words in streams]
        y = y.clone()
        for n, words in enumerate(streams):
            y[:, first + n] += fused(block.fusions[layer], words, fuse == "joined")
        y = block.outer[layer](y)
    torch.testing.assert_close(block(x), y, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("tnt")
def test_the_older_form(tmp_path) -> None:
    """tnt_s_legacy_patch16_224 of timm 1.0.31."""
    path = tmp_path / "tnt.yaml"
    path.write_text("extends: tnt_small\nchoices: {padded: {choice: [image]}, fuse: {choice: [words]}}\n")
    found = cost(load_space(path).sample(seed=0))
    assert found.params == 23_755_336
    assert found.macs / 1e6 == pytest.approx(5217.0, rel=0.001)


@pytest.mark.paper("tnt")
def test_inner_attention_grows_with_patches_and_words_squared() -> None:
    mixer = {"layer": {"mixer": {"attention": {"heads": 2}}}}
    options = {**OPTIONS, "times": 1, "inner": [mixer], "outer": [{"layer": {"channel": {"mlp": {}}}}]}
    for height, width in ((8, 12), (16, 24)):
        table, _ = node_table({"nested_tokens": options}, Shape("grid", 3, height=height, width=width))
        patches, words, inner = height * width // 16, 4, 4
        rows = table.matrix[table.select()]
        attended = rows[rows[:, C["kind"]] == KIND["attention_prefill"]]
        assert attended[:, C["macs"]].sum() == patches * 2 * words * words * inner


def test_shape_and_refusals() -> None:
    assert infer_shape({"nested_tokens": OPTIONS}, IMAGE) == Shape("sequence", 8, 7)
    without = infer_shape({"nested_tokens": {**OPTIONS, "class_token": False}}, IMAGE)
    assert without == Shape("sequence", 8, 6, height=2, width=3)
    for wrong, name in (({"patch": 5}, "patch"), ({"stride": 3}, "stride"), ({"kernel": 4}, "kernel")):
        with pytest.raises(ShapeError, match=f"{name} must"):
            infer_shape({"nested_tokens": {**OPTIONS, **wrong}}, IMAGE)
    with pytest.raises(ShapeError, match="later ones"):
        parse_node({"nested_tokens": OPTIONS})[0].check(
            IMAGE.with_(causal=True), parse_node({"nested_tokens": OPTIONS})[1]
        )


def test_equal_layers_are_written_once(tmp_path) -> None:
    path = tmp_path / "s.yaml"
    body = "dim: 8, inner_dim: 4, patch: 4, stride: 2, times: 4, outer: [{layer: {channel: mlp}}]"
    path.write_text(
        f"input: {{kind: image, shape: [3, 8, 12]}}\narchitecture:\n  nested_tokens: {{{body}, inner:"
        " [{layer: {channel: {mlp: {ratio: {choice: [1, 2]}}}}}, identity]}\n"
    )
    space = load_space(path)
    found = {len(space.sample(seed=i).node["nested_tokens"]["inner"]) for i in range(8)}
    assert found == {2, 4}
    assert {len(space.sample(seed=i).node["nested_tokens"]["outer"]) for i in range(8)} == {1}
