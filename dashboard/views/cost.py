"""What an architecture costs, in a situation that the reader chooses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import queries
from dashboard.data.cost import block_table, counts_rows, device_table, device_text, largest, operator_table
from dashboard.figures.cost import bars_figure, devices_figure
from dashboard.figures.style import CONFIG
from dashboard.text import markdown
from dashboard.views.navigation import linked_select
from space.errors import BlockwrightError
from store import TrialRecord


@dataclass(frozen=True)
class Situation:
    """A device, what runs on it, and what it costs there."""

    device: str
    priced: dict[str, Any]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the latency by place in the document."""
        table = block_table(self.priced["block"][self.device])
        return dict(zip(table["path"], table["share"], strict=True))


def choose_situation(trial: TrialRecord) -> Situation | None:
    """Controls for device, phase and batch; None, with the reason shown, where the architecture can't run so."""
    devices = queries.devices(trial.measurements)
    tokens = json.loads(trial.document)["input"]["kind"] != "image"
    phases = ["inference", "prefill", "decode", "training"] if tokens else ["inference", "training"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        device = linked_select("device", "Device", devices, devices[0], width=240)
        phase = linked_select("phase", "Phase", phases, phases[0], width=180)
        batch = int(st.number_input("Batch", 1, 65_536, 1, key="batch", width=140))
        length = None
        if tokens:
            told = st.number_input("Length", 1, 10_000_000, None, key="length", width=160, placeholder="as trained")
            length = int(told) if told else None
    try:
        return Situation(device, queries.cost(trial.document, tuple(devices), phase, batch, length))
    except BlockwrightError as error:
        st.warning(markdown(error), icon=":material/info:")
        return None


def show_cost(trial: TrialRecord, situation: Situation | None) -> None:
    """Counts, where the time goes on the device, and every device beside it."""
    if situation is None:
        st.caption("There is no cost for this situation; choose another phase.")
        return
    with st.container(horizontal=True):
        for name, value in counts_rows(situation.priced["total"]):
            st.metric(name, markdown(value), width="content")
    by = st.segmented_control("Latency by", ["block", "operator"], default="block", required=True, key="cost by")
    rows = situation.priced[by][situation.device]
    table, left_out = largest(block_table(rows) if by == "block" else operator_table(rows))
    st.plotly_chart(bars_figure(table), key=f"bars {by}", config=CONFIG, alt=f"Latency by {by}")
    if left_out:
        st.caption(f"{left_out} smaller ones are not drawn.")
    devices = device_table(situation.priced["total"])
    st.plotly_chart(devices_figure(devices), key="devices", config=CONFIG, alt="Latency on each device")
    st.dataframe(device_text(devices), hide_index=True, alt="Costs on each device")
