"""load_policy: devices, dtypes, places, damaged and foreign checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.common.errors import CheckpointError, HubError, SmolpilotError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import Policy, load_policy, new_policy, save_bundle

from .helpers_transforms import frame


@pytest.fixture(scope="module")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    meta = open_dataset(tiny_dataset).meta
    policy = new_policy("tiny", meta=meta, seed=3, device="cpu")
    path = save_bundle(policy, tmp_path_factory.mktemp("saved") / "bundle")
    # The tests change its files on purpose.
    facts = json.loads((path / "smolpilot.json").read_text())
    facts.pop("digests")
    (path / "smolpilot.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def load(path: Path | str, **options: object) -> Policy:
    return load_policy(path, device="cpu", **options)  # type: ignore[arg-type]


def as_lerobot(bundle: Path) -> Path:
    """The bundle without our own files: what a LeRobot checkpoint is."""
    for name in ("smolpilot.json", "robot.yaml"):
        (bundle / name).unlink()
    return bundle


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_weights(bundle: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(bundle / "model.safetensors")
    change(weights)
    save_file(weights, bundle / "model.safetensors")


class TestDeviceAndType:
    def test_auto_just_works(self, bundle: Path) -> None:
        policy = load_policy(bundle)
        assert policy.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert policy.report.dtype == "float32"

    @pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
    def test_dtype_by_name_or_object(self, bundle: Path, dtype: object) -> None:
        policy = load(bundle, dtype=dtype)
        assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.bfloat16}
        assert policy.predict_chunk(frame()).dtype == torch.float32
        assert policy.report.memory_bytes == 2 * policy.report.parameters

    @pytest.mark.parametrize("dtype", ["int8", "float64", "banana", torch.int64])
    def test_impossible_dtype(self, bundle: Path, dtype: object) -> None:
        with pytest.raises(UsageError, match="float32, bfloat16 or float16"):
            load(bundle, dtype=dtype)

    @pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu"])
    def test_impossible_device(self, bundle: Path, device: str) -> None:
        with pytest.raises(UsageError, match=device):
            load_policy(bundle, device=device)

    def test_mixed_file_becomes_one_dtype_and_the_report_says_so(self, bundle: Path) -> None:
        edit_weights(bundle, lambda w: w.update({k: v.bfloat16() for k, v in w.items() if "text_model" in k}))
        policy = load(bundle)
        assert policy.report.dtype == "float32"
        assert policy.report.found_dtypes["text"] == "bfloat16"
        assert "text bfloat16" in policy.report.text()


class TestPlaces:
    @pytest.mark.parametrize(
        "inside",
        ["pretrained_model", "checkpoints/last/pretrained_model", "checkpoints/last", "checkpoints/best", "last"],
    )
    def test_training_folders(self, bundle: Path, tmp_path: Path, inside: str) -> None:
        run = tmp_path / "run"
        (run / inside).parent.mkdir(parents=True)
        bundle.rename(run / inside)
        assert load(run).report.parameters > 0

    def test_best_is_preferred_to_last(self, bundle: Path, tmp_path: Path) -> None:
        checkpoints = tmp_path / "run" / "checkpoints"
        shutil.copytree(bundle, checkpoints / "step_000010")
        shutil.copytree(bundle, checkpoints / "step_000020")
        edit_json(checkpoints / "step_000010" / "smolpilot.json", lambda v: v["lineage"].update(step=10))
        (checkpoints / "best").symlink_to("step_000010")
        (checkpoints / "last").symlink_to("step_000020")
        assert load(tmp_path / "run").lineage["step"] == 10
        assert "step" not in load(checkpoints / "last").lineage

    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no checkpoint at"):
            load(tmp_path / "nowhere")

    def test_typo_below_an_existing_folder_is_no_hub_id(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "runs").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="no checkpoint at"):
            load("runs/lats")

    def test_folder_without_checkpoint_and_file(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            load(tmp_path / "empty")
        with pytest.raises(UsageError, match="is a file"):
            load(bundle / "model.safetensors")

    def test_hub_id_without_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(HubError, match="some-org/some-policy") as caught:
            load("some-org/some-policy")
        assert "HF_HUB_OFFLINE" in str(caught.value)

    def test_hub_id_in_the_cache_loads_offline(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cached(repo: str, **_: object) -> str:
            assert repo == "some-org/some-policy"
            return str(bundle)

        monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
        assert load("some-org/some-policy").report.source == "some-org/some-policy"

    def test_revision_of_a_folder(self, bundle: Path) -> None:
        with pytest.raises(UsageError, match="revision"):
            load(bundle, revision="main")


class TestWeights:
    def test_missing_weight_is_an_error_never_random(self, bundle: Path) -> None:
        edit_weights(bundle, lambda w: w.pop("model.vlm_with_expert.lm_expert.norm.weight"))
        with pytest.raises(CheckpointError, match=r"lacks 1 of \d+ weights") as caught:
            load(bundle)
        assert "lm_expert.norm.weight" in str(caught.value)

    def test_foreign_weight_is_an_error(self, bundle: Path) -> None:
        edit_weights(bundle, lambda w: w.update({"model.action_head.weight": torch.zeros(2)}))
        with pytest.raises(CheckpointError, match="action_head"):
            load(bundle)

    def test_wrong_shape_is_an_error(self, bundle: Path) -> None:
        edit_weights(bundle, lambda w: w.update({"model.state_proj.weight": torch.zeros(64, 16)}))
        with pytest.raises(CheckpointError, match=r"\[64, 16\]"):
            load(bundle)

    def test_compiled_and_wrapped_names(self, bundle: Path) -> None:
        expected = load(bundle).model.state_dict()
        for prefix in ("model._orig_mod.", "module.model.", "_orig_mod.model."):
            edit_weights(bundle, partial(_rename, prefix=prefix))
            for name, value in load(bundle).model.state_dict().items():
                assert torch.equal(value, expected[name])
            edit_weights(bundle, partial(_rename_back, prefix=prefix))

    def test_unread_names_are_classified(self, bundle: Path) -> None:
        extra = {
            "model.vlm_with_expert.vlm.model.text_model.layers.9.input_layernorm.weight": torch.ones(64),
            "model.vlm_with_expert.vlm.model.text_model.rotary_emb.inv_freq": torch.ones(8),
            "normalize_inputs.buffer_observation_state.mean": torch.ones(3),
        }
        edit_weights(bundle, lambda w: w.update(extra))
        report = load(bundle).report
        assert len(report.harmless) == 3  # with the language head
        assert report.normalization == ["normalize_inputs.buffer_observation_state.mean"]
        assert report.missing == []

    def test_tied_tensor_named_in_the_metadata(self, bundle: Path) -> None:
        twin = "model.vlm_with_expert.vlm.model.text_model.embed_tokens.weight"
        head = "model.vlm_with_expert.vlm.lm_head.weight"
        weights = load_file(bundle / "model.safetensors")
        weights[head] = weights.pop(twin)
        save_file(weights, bundle / "model.safetensors", metadata={"format": "pt", twin: head})
        assert torch.equal(load(bundle).model.text.embed_tokens.weight, weights[head])


def _rename(weights: dict[str, torch.Tensor], prefix: str) -> None:
    for name in list(weights):
        weights[prefix + name.removeprefix("model.")] = weights.pop(name)


def _rename_back(weights: dict[str, torch.Tensor], prefix: str) -> None:
    for name in list(weights):
        weights["model." + name.removeprefix(prefix)] = weights.pop(name)


class TestDamage:
    def test_torn_weights(self, bundle: Path) -> None:
        path = bundle / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="damaged or torn"):
            load(bundle)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vlm/tokenizer.json"])
    def test_git_lfs_pointer(self, bundle: Path, name: str) -> None:
        (bundle / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n")
        with pytest.raises(CheckpointError, match="Git-LFS pointer"):
            load(bundle)

    @pytest.mark.parametrize(
        "name",
        [
            "model.safetensors",
            "policy_preprocessor_step_5_normalizer_processor.safetensors",
            "vlm/tokenizer.json",
            "vlm/tokenizer_config.json",
        ],
    )
    def test_missing_file_is_one_clear_error(self, bundle: Path, name: str) -> None:
        (bundle / name).unlink()
        if name.endswith("tokenizer_config.json"):
            (bundle / "vlm/special_tokens_map.json").unlink()
        with pytest.raises(SmolpilotError) as caught:
            load(bundle)
        assert Path(name).name in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["config.json", "smolpilot.json", "policy_preprocessor.json", "vlm/config.json", "robot.yaml"]
    )
    def test_half_a_text_file(self, bundle: Path, name: str) -> None:
        text = (bundle / name).read_text()
        (bundle / name).write_text(text[: len(text) // 2] + "}{")
        with pytest.raises(SmolpilotError) as caught:
            load(bundle)
        assert Path(name).name in str(caught.value)

    @pytest.mark.parametrize("key", ["camera_map", "instructions", "lineage"])
    def test_facts_of_another_form(self, bundle: Path, key: str) -> None:
        edit_json(bundle / "smolpilot.json", lambda v: v.update({key: "x"}))
        with pytest.raises(CheckpointError, match=f"'{key}' in .*smolpilot.json is 'x'"):
            load(bundle)

    def test_newer_bundle(self, bundle: Path) -> None:
        edit_json(bundle / "smolpilot.json", lambda v: v.update(format=2))
        with pytest.raises(CheckpointError, match="format 2"):
            load(bundle)


class TestForeign:
    @pytest.mark.parametrize("kind", ["act", "pi0"])
    def test_another_policy_type(self, bundle: Path, kind: str) -> None:
        edit_json(bundle / "config.json", lambda v: v.update(type=kind))
        with pytest.raises(CheckpointError, match=f"type '{kind}'"):
            load(bundle)

    @pytest.mark.parametrize("key", ["adapt_to_pi_aloha", "use_delta_joint_actions_aloha"])
    def test_aloha_options(self, bundle: Path, key: str) -> None:
        edit_json(bundle / "config.json", lambda v: v.update({key: True}))
        with pytest.raises(CheckpointError, match=key):
            load(bundle)

    def test_depth_camera(self, bundle: Path) -> None:
        edit_json(
            bundle / "config.json",
            lambda v: v["input_features"].update({"observation.images.depth": {"type": "VISUAL", "shape": [1, 8, 8]}}),
        )
        with pytest.raises(CheckpointError, match="depth"):
            load(bundle)

    def test_unknown_processor_step(self, bundle: Path) -> None:
        edit_json(
            bundle / "policy_preprocessor.json",
            lambda v: v["steps"].append({"registry_name": "relative_actions_processor", "config": {}}),
        )
        with pytest.raises(CheckpointError, match="relative_actions_processor"):
            load(bundle)

    def test_whole_chunk_horizon_of_lerobot_is_kept_and_warned_about(self, bundle: Path) -> None:
        edit_json(as_lerobot(bundle) / "config.json", lambda v: v.update(n_action_steps=12))
        with pytest.warns(UserWarning, match="whole chunk"):
            policy = load(bundle)
        assert policy.n_action_steps == 12
        assert policy.report.warnings

    def test_tokenizer_elsewhere(self, bundle: Path, tmp_path: Path) -> None:
        edit_json(bundle / "config.json", lambda v: v.update(vlm_model_name="nobody/nothing"))
        expected = load(bundle).transforms.inputs([frame()]).tokens
        (bundle / "vlm").rename(tmp_path / "words")
        with pytest.raises(CheckpointError, match="--tokenizer"):
            load(bundle)
        policy = load(bundle, tokenizer_dir=tmp_path / "words")
        assert torch.equal(policy.transforms.inputs([frame()]).tokens, expected)


class TestStatistics:
    def test_stats_from_a_dataset_replace_the_checkpoints(self, bundle: Path, tiny_dataset: Path) -> None:
        expected = load(bundle).statistics["action"]["mean"]
        for path in bundle.glob("policy_*.safetensors"):
            save_file({"nothing": torch.zeros(1)}, path)
        with pytest.raises(CheckpointError, match="--policy-stats-from"):
            load(bundle)
        policy = load(bundle, stats_from=tiny_dataset)
        np.testing.assert_allclose(policy.statistics["action"]["mean"], expected)
        assert "tiny" in policy.report.statistics["action"]

    def test_parent_without_statistics_loads_but_cannot_run(self, bundle: Path) -> None:
        for path in bundle.glob("policy_*.safetensors"):
            save_file({"nothing": torch.zeros(1)}, path)
        policy = load(bundle, need_statistics=False)
        assert any("only good as a parent" in note for note in policy.report.notes)
        with pytest.raises(CheckpointError, match=r"(?s)no usable statistics for 'observation.state'.*--policy-stats"):
            policy.predict_chunk(frame())

    def test_identity_needs_none(self, bundle: Path) -> None:
        for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
            edit_json(
                bundle / name,
                lambda v: [
                    step["config"].update(norm_map={"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"})
                    for step in v["steps"]
                    if "normalizer" in step["registry_name"]
                ],
            )
        for path in bundle.glob("policy_*.safetensors"):
            save_file({"nothing": torch.zeros(1)}, path)
        assert load(bundle).predict_chunk(frame()).shape == (12, 3)
