"""Settings of a checkpoint that no policy has: each is one clear error, none a traceback, a hang or an action."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError, SmolpilotError, UsageError
from smolpilot.inference.example_frame import example_frame
from smolpilot.smolvla import load_policy
from smolpilot.smolvla.config.presets import preset

CONFIG, VLM, FACTS = "config.json", "vlm/config.json", "smolpilot.json"
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
STATE_FILES = (
    "policy_preprocessor_step_5_normalizer_processor.safetensors",
    "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
)
DEEP = "[" * 100_000 + "]" * 100_000


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def step(values: dict[str, Any], name: str) -> dict[str, Any]:
    return next(step for step in values["steps"] if step["registry_name"] == name)


def refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the verb says of a bundle that it does not take."""
    assert main(["bundle", str(bundle)]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert "Traceback" not in said.err
    return said.err


NUMBERS = [
    ("empty_cameras", 10**9, "0 to 64"), ("num_steps", 0, "1 to 1,000"), ("num_steps", -1, "1 to 1,000"),
    ("num_steps", 10**9, "1 to 1,000"), ("num_steps", True, "1 to 1,000"), ("num_steps", 2.0, "1 to 1,000"),
    ("chunk_size", 10**12, "1 to 10,000"), ("min_period", 0, "1e-09 to 1e+09"),
    ("max_period", -1, "1e-09 to 1e+09"), ("max_period", float("nan"), "1e-09 to 1e+09"),
    ("expert_width_multiplier", float("nan"), "0.001 to 16"), ("expert_width_multiplier", 0.49, "an even part"),
    ("resize_imgs_with_padding", [0, 0], "1 to 8,192"), ("resize_imgs_with_padding", 5, "a list"),
    ("resize_imgs_with_padding", [8, 8], "1 to 128 patches"), ("resize_imgs_with_padding", [8000, 8000], "128 patches"),
    ("attention_mode", 5, "'cross_attn' or 'self_attn'"), ("self_attn_every_n_layers", "x", "a whole number"),
    ("num_vlm_layers", 10**8, "-1 to 1,000"), ("tokenizer_max_length", 10**9, "1 to 8,192"),
    ("prefix_length", 10**9, "-1 to 8,192"), ("max_action_dim", 10**9, "1 to 10,000"), ("n_action_steps", 13, "1 to"),
    ("vlm_model_name", 5, "a text"), ("normalization_mapping", {"STATE": "MEAN_STD"}, "a mode for STATE and ACTION"),
    ("normalization_mapping", {"STATE": "MEAN_STD", "ACTION": "MEANSTD"}, "MEAN_STD, MIN_MAX"),
    ("pad_language_to", "left", "'longest' or 'max_length'"), ("freeze_vision_encoder", "x", "true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), NUMBERS)
def test_settings_out_of_range(
    key: str, value: object, expected: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(bundle / CONFIG, lambda values: values.update({key: value}))
    said = refused(bundle, capsys)
    assert key in said
    assert str(bundle / CONFIG) in said
    assert expected in said


@pytest.mark.parametrize(("side", "words"), [(8, "0 patches of 16 pixels"), (4096, "256 patches of 16 pixels")])
def test_pictures_that_nothing_resizes(side: int, words: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(values: dict[str, Any]) -> None:
        values["resize_imgs_with_padding"] = None
        for camera in ("front", "wrist"):
            values["input_features"][f"observation.images.{camera}"]["shape"] = [3, side, side]

    edit(bundle / CONFIG, change)
    assert f"Nothing is resized, and camera 'front' has {side}x{side}: {words}" in refused(bundle, capsys)


def test_periods_the_wrong_way_round(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(bundle / CONFIG, lambda values: values.update(min_period=4.0, max_period=0.004))
    assert "min_period is 4, max_period 0.004" in refused(bundle, capsys)


@pytest.mark.parametrize(
    ("part", "key", "value", "expected"),
    [
        ("vision_config", "num_hidden_layers", 10**8, "1 to 10,000"),
        ("vision_config", "patch_size", 0, "1 to 8,192"),
        ("vision_config", "patch_size", 65, "patch_size up to image_size"),
        ("vision_config", "hidden_size", 1.5, "1 to 65,536"),
        ("vision_config", "num_attention_heads", 7, "a multiple of the heads"),
        ("vision_config", "layer_norm_eps", float("nan"), "a number from 1e-30 to 1"),
        ("vision_config", "hidden_act", "relu", "'gelu_pytorch_tanh'"),
        ("text_config", "hidden_size", "x", "1 to 65,536"),
        ("text_config", "vocab_size", "x", "1 to 10,000,000"),
        ("text_config", "num_attention_heads", 0, "1 to 65,536"),
        ("text_config", "num_key_value_heads", 3, "divides num_attention_heads"),
        ("text_config", "head_dim", 15, "an even one"),
        ("text_config", "rms_norm_eps", -1, "a number from 1e-30 to 1"),
    ],
)
def test_sizes_of_the_vision_language_model(
    part: str, key: str, value: object, expected: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(bundle / VLM, lambda values: values[part].update({key: value}))
    said = refused(bundle, capsys)
    assert str(bundle / VLM) in said
    assert expected in said
    assert key in said or "heads" in said or "patches" in said


def test_layers_are_compared_with_the_weights_before_a_network_is_built(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise AssertionError("a network was built")

    edit(bundle / VLM, lambda values: values["vision_config"].update(num_hidden_layers=9_000))
    monkeypatch.setattr("smolpilot.smolvla.checkpoint.weights.SmolVLA", build)
    said = refused(bundle, capsys)
    assert "9,000 vision layers, but" in said
    assert str(bundle / "model.safetensors") in said


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("camera_map", {"a": 5}, "a text"),
        ("instructions", [5, None], "a text"),
        ("n_action_steps", 0, "1 to 10,000"),
        ("dtypes", {"text": 3}, "a text"),
        ("lineage", {"trained_episodes": "all"}, "a list"),
        ("lineage", {"parent": {"mixture": [{"fps": "fast"}]}}, "a number"),
        ("lerobot_keys", 5, "an object"),
        ("camera_maps", {}, "Did you mean 'camera_map'?"),
        ("format", "1", "format 1"),
    ],
)
def test_facts_of_other_types(
    key: str, value: object, expected: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(bundle / FACTS, lambda values: values.update({key: value}))
    said = refused(bundle, capsys)
    assert str(bundle / FACTS) in said
    assert key in said
    assert expected in said


PROCESSORS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "steps": (BEFORE, lambda v: v.update(steps=5), "'steps'"),
    "state_file": (BEFORE, lambda v: v["steps"][5].update(state_file=5), "a text"),
    "state_file_elsewhere": (BEFORE, lambda v: v["steps"][5].update(state_file="../x.safetensors"), "beside it"),
    "config_list": (BEFORE, lambda v: v["steps"][0].update(config=[1]), "an object"),
    "class_only": (BEFORE, lambda v: v["steps"].append({"class": "device_processor"}), "'device_processor'"),
    "step_without_name": (BEFORE, lambda v: v["steps"].append({}), "'None'"),
    "eps_nan": (BEFORE, lambda v: v["steps"][5]["config"].update(eps=float("nan")), "1e-30 to 1"),
    "eps_zero": (AFTER, lambda v: v["steps"][0]["config"].update(eps=0), "1e-30 to 1"),
    "eps_differs": (AFTER, lambda v: v["steps"][0]["config"].update(eps=1e-3), "the same in both"),
    "max_length": (BEFORE, lambda v: v["steps"][3]["config"].update(max_length=0), "1 to 8,192"),
    "padding": (BEFORE, lambda v: v["steps"][3]["config"].update(padding=True), "'longest' or 'max_length'"),
    "padding_side": (BEFORE, lambda v: v["steps"][3]["config"].update(padding_side="left"), "'right'"),
    "rename": (BEFORE, lambda v: v["steps"][0]["config"].update(rename_map={"observation.images.a": 5}), "a text"),
    "norm_map_without_state": (BEFORE, lambda v: v["steps"][5]["config"]["norm_map"].pop("STATE"), "a mode for STATE"),
    "norm_map_without_action": (AFTER, lambda v: v["steps"][0]["config"]["norm_map"].pop("ACTION"), "a mode for STATE"),
    "norm_map_gone": (BEFORE, lambda v: v["steps"][5]["config"].pop("norm_map"), "norm_map"),
    "other_mode_after": (AFTER, lambda v: v["steps"][0]["config"]["norm_map"].update(ACTION="MIN_MAX"), "MIN_MAX"),
    "other_mode_of_state": (AFTER, lambda v: v["steps"][0]["config"]["norm_map"].update(STATE="IDENTITY"), "IDENTITY"),
    "state_is_no_feature": (
        BEFORE, lambda v: v["steps"][5]["config"]["features"].pop("observation.state"), "leave out",
    ),
    "only_other_keys": (
        BEFORE, lambda v: v["steps"][5]["config"].update(normalize_observation_keys=["x"]), "leave out",
    ),
    "no_normalizer": (BEFORE, lambda v: v["steps"].pop(5), "no step 'normalizer_processor'"),
    "no_unnormalizer": (AFTER, lambda v: v["steps"].pop(0), "no step 'unnormalizer_processor'"),
    "normalized_twice": (BEFORE, lambda v: v["steps"].append(v["steps"][5]), "twice"),
    "normalized_after": (AFTER, lambda v: v["steps"][1].update(registry_name="normalizer_processor"), "not have there"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROCESSORS)
def test_processors_that_contradict_themselves(case: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, expected = PROCESSORS[case]
    edit(bundle / name, change)
    said = refused(bundle, capsys)
    assert name in said
    assert expected in said


@pytest.mark.parametrize("name", [CONFIG, FACTS, BEFORE, AFTER, VLM, "vlm/tokenizer_config.json", "vlm/tokenizer.json"])
def test_depth_in_every_json(name: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (bundle / name).read_text().rstrip()
    (bundle / name).write_text(f'{text[:-1]}, "x": {DEEP}}}')
    said = refused(bundle, capsys)
    assert str(bundle / name) in said
    assert len(said) < 2_000


def test_depth_in_the_index_of_shards(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "model.safetensors").unlink()
    (bundle / "model.safetensors.index.json").write_text(f'{{"weight_map": {DEEP}}}')
    assert "model.safetensors.index.json is no valid JSON" in refused(bundle, capsys)


VALUES: list[Any] = [None, "", "x", -1, 0, 1e308, float("nan"), [], {}, True, 10**30]


def leaves(values: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, inner in pairs:
        yield from leaves(inner, (*place, key))


def changed(values: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    values = copy.copy(values)
    values[place[0]] = changed(values[place[0]], place[1:], new)
    return values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [CONFIG, FACTS, BEFORE, AFTER, VLM])
def test_any_value_anywhere_is_an_action_or_one_error(name: str, bundle: Path) -> None:
    """A sample of every place of a file with every kind of value; the whole of it gave no traceback either."""
    text = (bundle / name).read_text()
    values = json.loads(text)
    choices = [(place, new) for place in leaves(values) for new in VALUES]
    refusals: list[str] = []
    for place, new in random.Random(name).sample(choices, 12):
        (bundle / name).write_text(json.dumps(changed(values, place, new)))
        try:
            policy = load_policy(bundle, device="cpu")
        except SmolpilotError as error:
            refusals.append(str(error))
        else:
            assert torch.isfinite(policy.predict_chunk(example_frame(policy.transforms_config, 0))).all()
    assert refusals
    assert max(map(len, refusals)) < 1_500


def test_options_have_the_same_ranges() -> None:
    with pytest.raises(UsageError, match=r"'num_steps' is 0\.\nExpected: a whole number from 1 to 1,000"):
        preset("tiny", num_steps=0)
    assert preset("tiny", num_steps=1_000, chunk_size=10_000).num_steps == 1_000


STATISTICS = [
    ("action.std", 1000.0, False, "action.std of joint 0 (pan) is"),  # after the network only
    ("observation.state.mean", 1000.0, False, "observation.state.mean of joint 0"),
    ("action.std", float("nan"), True, "std of 'action' is NaN for joint 0 (pan)"),
    ("action.std", -1.0, True, "std of 'action' is negative for joint 0 (pan)"),
    ("observation.state.mean", float("inf"), True, "'observation.state' was never set"),
    ("action.std", 1e300, True, "std of 'action' is infinite for joint 0 (pan)"),
    ("action.min", 1e6, True, "min of 'action' is above its max for joint 0 (pan)"),
    ("observation.state.q10", 1e6, True, "q10 of 'observation.state' is above its q50 for joint 0 (pan)"),
    ("action.max", float("nan"), True, "max of 'action' is NaN for joint 0 (pan)"),
]


@pytest.mark.parametrize(("key", "value", "both", "words"), STATISTICS)
def test_statistics_that_contradict_each_other(
    key: str, value: float, both: bool, words: str, bundle: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in STATE_FILES if both else STATE_FILES[1:]:
        entries = load_file(bundle / name)
        for joint in range(3 if "inf" in str(value) else 1):
            entries[key][joint] = value
        save_file(entries, bundle / name)
    with pytest.raises(CheckpointError) as caught:
        load_policy(bundle, device="cpu")
    assert words in caught.value.found
    assert "--policy-stats-from DATASET" in caught.value.fix
    assert main(["bundle", str(bundle)]) == int(not both)  # a parent may do without, but not with two that differ
    said = capsys.readouterr()
    assert words in said.out + said.err
    assert main(["bundle", str(bundle), "--policy-stats-from", str(tiny_dataset)]) == 0


def test_a_statistic_of_any_size_is_no_statistic(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in STATE_FILES:
        save_file(load_file(bundle / name) | {"x": torch.zeros(1_000_001, dtype=torch.int8)}, bundle / name)
    assert "I8 of the shape [1000001]" in refused(bundle, capsys)


@pytest.mark.parametrize(("dtype", "factor", "loads"), [("bfloat16", 1, True), ("float32", 1.01, False)])
def test_state_files_agree_up_to_the_rounding_of_their_dtype(
    dtype: str, factor: float, loads: bool, bundle: Path
) -> None:
    entries = load_file(bundle / STATE_FILES[1])
    save_file({k: (v * factor).to(getattr(torch, dtype)) for k, v in entries.items()}, bundle / STATE_FILES[1])
    if loads:
        assert load_policy(bundle, device="cpu").report.statistics_problem == ""
    else:
        with pytest.raises(CheckpointError, match="contradict each other"):
            load_policy(bundle, device="cpu")


def test_statistics_in_order_up_to_rounding_load(bundle: Path) -> None:
    for name in STATE_FILES:
        entries = load_file(bundle / name)
        for number, quantile in enumerate(("q01", "q10", "q50", "q90", "q99")):  # a joint that stands still
            entries[f"action.{quantile}"][0] = 12.0 - number * 1e-7
        entries["action.min"][0] = entries["action.max"][0] = 12.0
        save_file(entries, bundle / name)
    assert load_policy(bundle, device="cpu").statistics["action"]["q99"][0] == pytest.approx(12)


def test_a_wrong_checkpoint_is_no_option_of_the_user(bundle: Path) -> None:
    edit(bundle / CONFIG, lambda values: values.update(n_obs_steps=2))
    with pytest.raises(CheckpointError, match="n_obs_steps is 2"):
        load_policy(bundle, device="cpu")
