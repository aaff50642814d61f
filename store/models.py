"""The tables. Everything a query asks for is a column; JSON columns are never looked into.

Times are seconds since 1970-01-01 UTC on the database's clock.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.records import DIRECTIONS, FINISHED_STATES, STATES, STATUSES

LARGEST = "1.7976e308"


def one_of(column: str, names: tuple[str, ...]) -> str:
    """SQL of a check that a column holds one of these words."""
    return f"{column} IN ({', '.join(repr(n) for n in names)})"


def finite(column: str) -> str:
    """SQL of a check that refuses NaN and infinity (NULL passes)."""
    return f"{column} > -{LARGEST} AND {column} < {LARGEST}"


class Base(DeclarativeBase):
    """Base of all tables; constraints are named, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double(), str: Text(), Any: JSON(none_as_null=True)}


class StudyRow(Base):
    """A search over one space; the lease says which coordinator owns it."""

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint(one_of("status", STATUSES), name="status"),
        CheckConstraint(finite("hypervolume"), name="hypervolume"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    space_yaml: Mapped[str]
    space_sha256: Mapped[str] = mapped_column(String(64))
    settings: Mapped[Any]
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    updated_at: Mapped[float]
    hypervolume: Mapped[float | None]
    lease_holder: Mapped[str | None]
    lease_host: Mapped[str | None]
    lease_pid: Mapped[int | None] = mapped_column(BigInteger)
    lease_since: Mapped[float | None]
    lease_expires: Mapped[float | None]


class ObjectiveRow(Base):
    """What a study optimises, in the order of its space file."""

    __tablename__ = "objectives"
    __table_args__ = (
        CheckConstraint(one_of("direction", DIRECTIONS), name="direction"),
        UniqueConstraint("study_id", "name"),
    )
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    direction: Mapped[str] = mapped_column(String(3))


class ArchitectureRow(Base):
    """An architecture, once for all studies; `id` is the sha256 of its canonical document."""

    __tablename__ = "architectures"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[str]
    params: Mapped[int | None] = mapped_column(BigInteger)
    macs: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]


class Trial(Base):
    """One candidate of one study, from its proposal to its result."""

    __tablename__ = "trials"
    __table_args__ = (
        CheckConstraint(one_of("state", STATES), name="state"),
        CheckConstraint(f"(finished_at IS NOT NULL) = ({one_of('state', FINISHED_STATES)})", name="finished"),
        CheckConstraint("state <> 'running' OR started_at IS NOT NULL", name="running"),
        UniqueConstraint("study_id", "number"),
        Index(None, "study_id", "state"),
        Index(None, "study_id", "on_front"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    number: Mapped[int]
    proposed_order: Mapped[int]
    architecture_id: Mapped[str] = mapped_column(String(64), ForeignKey("architectures.id"), index=True)
    evaluation_key: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    feasible: Mapped[bool]
    on_front: Mapped[bool]
    sampler: Mapped[Any | None]
    violation: Mapped[Any | None]
    attempts: Mapped[int]
    worker: Mapped[str | None]
    queued_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    seconds: Mapped[float | None]


class Pick(Base):
    """What a trial picked at one site of the space; `value` is its JSON text."""

    __tablename__ = "picks"
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class TrialValue(Base):
    """One objective value of a trial; NULL where it was not finite."""

    __tablename__ = "trial_values"
    __table_args__ = (CheckConstraint(finite("value"), name="finite"),)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float | None]


class MeasurementRow(Base):
    """A figure of an architecture (`trial_id` NULL) or of one trial; hardware '' where it needs none."""

    __tablename__ = "measurements"
    __table_args__ = (
        *(CheckConstraint(finite(c), name=f"finite_{c}") for c in ("value", "low", "high")),
        Index(
            "uq_measurements_of_architecture",
            *("architecture_id", "name", "hardware", "situation"),
            unique=True,
            sqlite_where=text("trial_id IS NULL"),
            postgresql_where=text("trial_id IS NULL"),
        ),
        Index(
            "uq_measurements_of_trial",
            *("trial_id", "name", "hardware", "situation"),
            unique=True,
            sqlite_where=text("trial_id IS NOT NULL"),
            postgresql_where=text("trial_id IS NOT NULL"),
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    architecture_id: Mapped[str] = mapped_column(String(64), ForeignKey("architectures.id"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    name: Mapped[str]
    hardware: Mapped[str]
    situation: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]
    low: Mapped[float | None]
    high: Mapped[float | None]


class CurveRow(Base):
    """One point of a learning curve; NULL where it was not finite."""

    __tablename__ = "curves"
    __table_args__ = (CheckConstraint(finite("value"), name="finite"),)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    split: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]


class ArtifactRow(Base):
    """A file of a trial, found under the artifact root by its hash."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("trial_id", "kind", "sha256"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    kind: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]


class ProfileRow(Base):
    """A hardware profile as it stood when a study used it."""

    __tablename__ = "profiles"
    __table_args__ = (UniqueConstraint("name", "sha256"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[str]
    created_at: Mapped[float]


class CalibrationRow(Base):
    """A measured profile of a machine."""

    __tablename__ = "calibrations"
    __table_args__ = (CheckConstraint(finite("error"), name="finite"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    hardware: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[float]
    fingerprint: Mapped[str]
    content: Mapped[str]
    error: Mapped[float | None]
