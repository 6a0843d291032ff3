"""The documentation names what there is."""

from pathlib import Path

import pytest
from click import Context

from service.cli import cli
from service.config import CLIENT_SETTINGS, SETTINGS, Setting
from service.telemetry import Metrics

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()


@pytest.mark.parametrize("setting", [*SETTINGS, *CLIENT_SETTINGS], ids=lambda one: str(one.name))
def test_settings(setting: Setting) -> None:
    """Every setting stands in the operating guide."""
    assert f"`{setting.variable}`" in OPERATING


def test_metrics() -> None:
    """Every metric stands in the operating guide under the name Prometheus shows."""
    names = [
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in Metrics().registry.collect()
    ]

    assert [name for name in names if f"`{name}`" not in OPERATING] == []


def test_commands() -> None:
    """Every command stands in the changelog's or the README's list."""
    told = (ROOT / "CHANGELOG.md").read_text() + (ROOT / "README.md").read_text()

    assert [name for name in cli.list_commands(Context(cli)) if name not in told] == []
