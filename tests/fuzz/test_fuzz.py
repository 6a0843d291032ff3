"""A little of what `make fuzz` does at length, and whether its judge would find a fault."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from service.eventlog.reader import StoredLogReader
from service.plugchat import decode
from tests.calls import callback
from tests.fuzz.__main__ import fuzzed
from tests.fuzz.mutations import Mutations
from tests.fuzz.pipeline import Input, pipeline


async def test_made_up_bodies_are_kept_and_listed() -> None:
    """Their very bytes come back, as reports or in quarantine; neighbours are unharmed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    counts, faults = await fuzzed(seed, 2_000)

    assert faults == []
    assert counts["inputs"] == 2_000
    assert counts["of a known type"] > 800
    assert counts["reported"] > 400


async def test_the_judge_finds_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes, a body that is nowhere, a neighbour that is harmed, an object refused."""
    plain = json.dumps(callback("A", "READ")).encode()
    async with pipeline(tmp_path) as way:
        clean = await way.judge("first", [Input(plain, "A")])
        with monkeypatch.context() as patch:
            patch.setitem(decode.CALLBACK_TYPES, "MESSAGESTATUSCALLBACK", None)
            nowhere = await way.judge("second", [Input(plain, "A")])
        harmed = await way.judge("third", [Input(b'{"type":"X"}', "A")])
        event = StoredLogReader.event
        with monkeypatch.context() as patch:
            # Something else is read than was written.
            patch.setattr(
                StoredLogReader, "event", lambda log, at: event(log, at - 1) or event(log, at)
            )
            other = await way.judge("fourth", [Input(plain, ""), Input(plain + b" ", "")])
        way._limits = replace(way._limits, body_depth_max=1)
        refused = await way.judge("fifth", [Input(plain, "A")])
    mutations = Mutations(1)

    assert clean == []
    assert "a JSON object was refused" in refused[0]
    assert "nowhere" in nowhere[0]
    assert "a neighbour went to quarantine" in harmed[0]
    assert "other bytes came back" in other[0]
    assert Mutations(1).structured() == mutations.structured()
