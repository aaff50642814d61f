"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "status IN ('created', 'running', 'finished', 'stopped', 'failed')"
STATES = "state IN ('queued', 'running', 'complete', 'failed', 'diverged', 'pruned', 'infeasible')"
FINISHED = "state IN ('complete', 'failed', 'diverged', 'pruned', 'infeasible')"


def upgrade() -> None:
    """Studies, architectures, trials and what hangs on them."""
    op.create_table(
        "studies",
        _id(),
        _text("name"),
        _text("space_yaml"),
        _hash("space_sha256"),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        _number("created_at"),
        _number("updated_at"),
        _number("hypervolume", nullable=True),
        _text("lease_holder", nullable=True),
        _text("lease_host", nullable=True),
        sa.Column("lease_pid", sa.BigInteger()),
        _number("lease_since", nullable=True),
        _number("lease_expires", nullable=True),
        sa.CheckConstraint(STATUSES, name="status"),
        _finite("hypervolume", "hypervolume"),
        sa.UniqueConstraint("name", name="uq_studies_name"),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
    )
    op.create_table(
        "objectives",
        _integer("study_id"),
        _integer("position"),
        _text("name"),
        sa.Column("direction", sa.String(3), nullable=False),
        sa.CheckConstraint("direction IN ('min', 'max')", name="direction"),
        _owner("objectives", "study_id", "studies"),
        sa.UniqueConstraint("study_id", "name", name="uq_objectives_study_id_name"),
        sa.PrimaryKeyConstraint("study_id", "position", name="pk_objectives"),
    )
    op.create_table(
        "architectures",
        _hash("id"),
        _text("document"),
        sa.Column("params", sa.BigInteger()),
        sa.Column("macs", sa.BigInteger()),
        _number("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_architectures"),
    )
    _trials()
    op.create_table(
        "picks",
        _integer("trial_id"),
        _text("site"),
        _text("value"),
        _owner("picks"),
        sa.PrimaryKeyConstraint("trial_id", "site", name="pk_picks"),
    )
    op.create_table(
        "trial_values",
        _integer("trial_id"),
        _integer("position"),
        _number("value", nullable=True),
        _finite("value"),
        _owner("trial_values"),
        sa.PrimaryKeyConstraint("trial_id", "position", name="pk_trial_values"),
    )
    _measurements()
    op.create_table(
        "curves",
        _integer("trial_id"),
        _integer("step"),
        _text("split"),
        _text("metric"),
        _number("value", nullable=True),
        _finite("value"),
        _owner("curves"),
        sa.PrimaryKeyConstraint("trial_id", "step", "split", "metric", name="pk_curves"),
    )
    op.create_table(
        "artifacts",
        _id(),
        _integer("trial_id"),
        _text("kind"),
        _hash("sha256"),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        _text("path"),
        _owner("artifacts"),
        sa.UniqueConstraint("trial_id", "kind", "sha256", name="uq_artifacts_trial_id_kind_sha256"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
    )
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"])
    op.create_table(
        "profiles",
        _id(),
        _text("name"),
        _hash("sha256"),
        _text("content"),
        _number("created_at"),
        sa.UniqueConstraint("name", "sha256", name="uq_profiles_name_sha256"),
        sa.PrimaryKeyConstraint("id", name="pk_profiles"),
    )
    op.create_table(
        "calibrations",
        _id(),
        _text("hardware"),
        _number("created_at"),
        _text("fingerprint"),
        _text("content"),
        _number("error", nullable=True),
        _finite("error"),
        sa.PrimaryKeyConstraint("id", name="pk_calibrations"),
    )
    op.create_index("ix_calibrations_hardware", "calibrations", ["hardware"])


def _trials() -> None:
    op.create_table(
        "trials",
        _id(),
        _integer("study_id"),
        _integer("number"),
        _integer("proposed_order"),
        _hash("architecture_id"),
        _hash("evaluation_key"),
        sa.Column("state", sa.String(16), nullable=False),
        _text("reason"),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("on_front", sa.Boolean(), nullable=False),
        sa.Column("sampler", sa.JSON()),
        sa.Column("violation", sa.JSON()),
        _integer("attempts"),
        _text("worker", nullable=True),
        _number("queued_at"),
        _number("started_at", nullable=True),
        _number("finished_at", nullable=True),
        _number("seconds", nullable=True),
        sa.CheckConstraint(STATES, name="state"),
        sa.CheckConstraint(f"(finished_at IS NOT NULL) = ({FINISHED})", name="finished"),
        sa.CheckConstraint("state <> 'running' OR started_at IS NOT NULL", name="running"),
        _owner("trials", "study_id", "studies"),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name="fk_trials_architecture_id"),
        sa.UniqueConstraint("study_id", "number", name="uq_trials_study_id_number"),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
    )
    for columns in (["study_id", "state"], ["study_id", "on_front"], ["architecture_id"], ["evaluation_key"]):
        op.create_index(f"ix_trials_{'_'.join(columns)}", "trials", columns)


def _measurements() -> None:
    op.create_table(
        "measurements",
        _id(),
        _hash("architecture_id"),
        sa.Column("trial_id", sa.Integer()),
        _text("name"),
        _text("hardware"),
        _text("situation"),
        _number("value"),
        _text("unit"),
        _number("low", nullable=True),
        _number("high", nullable=True),
        *(_finite(column, f"finite_{column}") for column in ("value", "low", "high")),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name="fk_measurements_architecture_id"),
        _owner("measurements"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
    )
    for owner, where in (("architecture", "trial_id IS NULL"), ("trial", "trial_id IS NOT NULL")):
        op.create_index(
            f"uq_measurements_of_{owner}",
            "measurements",
            [f"{owner}_id", "name", "hardware", "situation"],
            unique=True,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer(), nullable=False)


def _integer(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False, autoincrement=False)


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _hash(name: str) -> sa.Column:
    return sa.Column(name, sa.String(64), nullable=False)


def _number(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _finite(column: str, name: str = "finite") -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} > -1.7976e308 AND {column} < 1.7976e308", name=name)


def _owner(table: str, column: str = "trial_id", owner: str = "trials") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")
