"""The one open database of this server, read-only, and the message where there is none."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard.text import clipped, markdown, without_password
from space.errors import BlockwrightError
from store import Store

LOG = logging.getLogger("blockwright.dashboard")


def address() -> str:
    """The database that this server was started for."""
    given = os.environ.get("BLOCKWRIGHT_STORE")
    if given:
        return given
    from nas.loading import default_store

    return default_store()


def store() -> Store:
    """The open database. Raises StoreError with the way out where it is missing, newer, or none at all."""
    return _opened(address(), _identity(address()))


def _identity(where: str) -> tuple[int, int] | None:
    """Tells a file from one that replaced it under the same name."""
    if "://" in where and not where.startswith("sqlite:///"):
        return None
    try:
        told = Path(where.removeprefix("sqlite:///")).expanduser().stat()
    except OSError:
        return None
    return told.st_dev, told.st_ino


@st.cache_resource(show_spinner=False, max_entries=4, on_release=lambda opened: opened.close())
def _opened(where: str, identity: tuple[int, int] | None) -> Store:
    return Store(where, read_only=True)


def guarded(page: Callable[[], None]) -> Callable[[], None]:
    """The page, with what goes wrong on it told in one line; details go to the server's log only."""

    @functools.wraps(page)
    def shown() -> None:
        try:
            page()
        except BlockwrightError as error:
            tell(error)
        except Exception as error:
            LOG.exception("page %s", page.__module__)
            st.error(
                f"This page could not be drawn ({markdown(type(error).__name__)})."
                " Reload it; the terminal where the dashboard runs shows the details.",
                icon=":material/error:",
            )

    return shown


def tell(error: BlockwrightError) -> None:
    """Show an error's message as plain text."""
    message = without_password(clipped(error, 1000))
    st.error(markdown(message, 1000), icon=":material/error:")
    st.caption(f"Database: {markdown(without_password(address()))}")
    if "no database" in message or "does not exist" in message:
        nothing_yet()


def nothing_yet() -> None:
    """What to type where there is no study yet."""
    st.markdown("**No study yet.** Start one in a terminal; it appears here while it runs:")
    st.code(f"nas run examples/pocket-vision.yaml --store {_quoted(address())}", language="bash")
    st.caption("`nas check SPACE.yaml` tells the size of a space and its mistakes first.")


def _quoted(where: str) -> str:
    import shlex

    return shlex.quote(clipped(without_password(where)))
