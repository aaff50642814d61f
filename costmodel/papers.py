"""Which papers' ideas live in the cost model, and where: catalogue id -> what, and the module that does it."""

from __future__ import annotations

FEATURES: dict[str, tuple[str, str]] = {
    "block-shuffle": ("cost option tiles: tile, overlap", "costmodel/memory_patches.py"),
    "bytetransformer": ("cost option lengths, padding packed or max", "costmodel/lengths.py"),
    "dct-approximations": ("cosine transforms of additions and shifts", "space/ops/dct_approximation.py"),
    "ecoformer": ("energy of multiplications and additions apart", "costmodel/energy.py"),
    "flashattention-2": ("attention fused or materialised, by a profile's kernels", "costmodel/attention.py"),
    "flashfftconv": ("Fourier convolutions as matrix products, priced as such", "space/ops/monarch.py"),
    "fpga-transformers": ("a template device from DSPs, clock, BRAM and DDR", "costmodel/fpga.py"),
    "lean-attention": ("occupancy of decode attention, its length split over the units", "costmodel/occupancy.py"),
    "mcuformer": ("peak SRAM under a static plan; patch-by-patch first stages", "costmodel/memory_plan.py"),
    "puma": ("a profile on which non-linear operations are dear", "costmodel/profiles/secure-inference.yaml"),
    "shiftaddvit": ("energy of multiplications, additions and shifts apart", "costmodel/energy.py"),
}
"""A row is added with the feature, and with the test that does the row's `check` (`@pytest.mark.paper(id)`)."""


def paper_features() -> dict[str, str]:
    """Catalogue id -> `cost model: what (module)`."""
    return {paper: f"cost model: {what} ({module})" for paper, (what, module) in FEATURES.items()}
