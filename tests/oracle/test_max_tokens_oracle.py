"""More room for an instruction (`--max-tokens`): LeRobot loads the policy and predicts the same of a long text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.common.errors import TransformError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import adapt_policy, load_policy, localize, new_policy, save_bundle

from .test_checkpoints_oracle import assert_same, lerobot_chunk, lerobot_loads, noise_for

pytestmark = pytest.mark.oracle

LONG = "pick up the small red cube beside the blue cup and put it into the white box"


def test_a_parent_with_more_room_equals_lerobots(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset, chunk_size=12)
    parent = new_policy("tiny", meta=dataset.meta, seed=1, device="cpu", overrides={"tokenizer_max_length": 48})
    sample = dataset[7]
    frame = {key: sample[key] for key in sample if key.startswith("observation.")} | {"task": LONG}
    with pytest.raises(TransformError, match="77 tokens"):
        parent.predict_chunk(frame)
    child = adapt_policy(parent, meta=dataset.meta, instructions=[LONG], overrides={"tokenizer_max_length": 96})
    bundle = save_bundle(child, tmp_path / "bundle")
    localize(bundle)
    ours = load_policy(bundle, device="cpu")
    assert ours.config.tokenizer_max_length == 96
    noise = noise_for(ours)
    theirs = lerobot_loads(bundle, strict=True)
    assert theirs[0].config.tokenizer_max_length == 96
    expected = lerobot_chunk(theirs, frame, noise)
    assert_same(ours.predict_chunk(frame, noise), expected, ours.statistics)
    # With LeRobot's usual room the end of the text is cut off there, and other actions come out.
    path = bundle / "policy_preprocessor.json"
    path.write_text(json.dumps(json.loads(path.read_text().replace('"max_length": 96', '"max_length": 48'))))
    cut = lerobot_chunk(lerobot_loads(bundle, strict=True), frame, noise)
    assert float((cut - expected).abs().max()) > 1e-4
