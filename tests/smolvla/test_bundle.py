"""Bundles: written whole, moved, loaded again, the same actions."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import CheckpointError, TransformError, UsageError
from smolpilot.datasets import Dataset, open_dataset
from smolpilot.smolvla import Policy, load_policy, localize, new_policy, save_bundle, seal_bundle


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset, chunk_size=12)


@pytest.fixture(scope="module")
def policy(dataset: Dataset) -> Policy:
    return new_policy("tiny", meta=dataset.meta, seed=3, device="cpu")


@pytest.fixture
def bundle(policy: Policy, tmp_path: Path) -> Path:
    return save_bundle(policy, tmp_path / "bundle")


def noise(policy: Policy) -> torch.Tensor:
    shape = (policy.config.chunk_size, policy.config.max_action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class TestRoundTrip:
    def test_same_actions_after_move_and_load(
        self, policy: Policy, bundle: Path, dataset: Dataset, tmp_path: Path
    ) -> None:
        moved = tmp_path / "elsewhere" / "mine"
        moved.parent.mkdir()
        shutil.move(bundle, moved)
        again = load_policy(moved, device="cpu")
        frame = dataset[4]
        chunk = policy.predict_chunk(frame, noise(policy))
        assert chunk.shape == (12, 3)
        assert chunk.dtype == torch.float32
        assert torch.equal(again.predict_chunk(frame, noise(policy)), chunk)

    def test_every_fact_survives(self, policy: Policy, bundle: Path) -> None:
        again = load_policy(bundle, device="cpu")
        assert dataclasses.replace(again.config, other={}) == policy.config
        assert again.profile == policy.profile
        assert again.instructions == ["touch the red block", "touch the blue block"]
        assert again.transforms.camera_map == {"front": "front", "wrist": "wrist"}
        assert again.lineage["dataset"]["fingerprint"] == policy.lineage["dataset"]["fingerprint"]
        assert again.n_action_steps == 10
        for feature, stats in policy.statistics.items():
            for name, value in stats.items():
                np.testing.assert_array_equal(again.statistics[feature][name], value)

    def test_second_generation_equals_the_first(self, bundle: Path, tmp_path: Path) -> None:
        again = save_bundle(load_policy(bundle, device="cpu"), tmp_path / "second")
        for name in ("config.json", "smolpilot.json", "policy_preprocessor.json", "robot.yaml", "model.safetensors"):
            assert (again / name).read_bytes() == (bundle / name).read_bytes(), name

    def test_horizon_set_by_hand_is_kept(self, policy: Policy, bundle: Path, tmp_path: Path) -> None:
        again = load_policy(bundle, device="cpu")
        again.n_action_steps = 3
        assert load_policy(save_bundle(again, tmp_path / "three"), device="cpu").n_action_steps == 3

    def test_weights_carry_lerobots_names_and_the_language_head(self, bundle: Path) -> None:
        names = load_file(bundle / "model.safetensors").keys()
        assert all(name.startswith("model.") for name in names)
        assert "model.vlm_with_expert.vlm.lm_head.weight" in names

    @pytest.mark.oracle
    def test_config_has_lerobots_keys_only(self, bundle: Path) -> None:
        from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

        keys = json.loads((bundle / "config.json").read_text()).keys()
        assert keys - {field.name for field in dataclasses.fields(SmolVLAConfig)} == {"type"}

    def test_lerobot_neither_fetches_other_weights_nor_pushes_these(self, bundle: Path) -> None:
        values = json.loads((bundle / "config.json").read_text())
        assert (values["type"], values["load_vlm_weights"], values["push_to_hub"]) == ("smolvla", False, False)
        assert not {"pretrained_path", "pretrained_revision"} & values.keys()

    def test_head_is_carried_from_the_file_not_from_memory(self, bundle: Path, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        weights = load_file(bundle / "model.safetensors")
        head = torch.randn_like(weights["model.vlm_with_expert.vlm.lm_head.weight"])
        save_file({**weights, "model.vlm_with_expert.vlm.lm_head.weight": head}, bundle / "model.safetensors")
        seal_bundle(bundle)
        loaded = load_policy(bundle, device="cpu")
        assert not any("head" in name for name, _ in loaded.model.named_parameters())
        shutil.rmtree(bundle)
        again = load_file(save_bundle(loaded, tmp_path / "again") / "model.safetensors")
        assert torch.equal(again["model.vlm_with_expert.vlm.lm_head.weight"], head)


class TestWriting:
    def test_every_file_is_as_readable_as_the_others(self, bundle: Path) -> None:
        assert len({path.stat().st_mode for path in bundle.iterdir() if path.is_file()}) == 1

    def test_existing_target_is_refused_and_kept(self, policy: Policy, bundle: Path) -> None:
        before = sorted(path.name for path in bundle.iterdir())
        with pytest.raises(UsageError, match="exists already"):
            save_bundle(policy, bundle)
        assert sorted(path.name for path in bundle.iterdir()) == before

    def test_failure_leaves_nothing(self, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("smolpilot.smolvla.bundle.save_file", full)
        with pytest.raises(OSError, match="No space"):
            save_bundle(policy, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


class TestLocalize:
    def test_writes_absolute_paths_and_is_idempotent(self, bundle: Path) -> None:
        folder = localize(bundle)
        assert folder == bundle.resolve() / "vlm"
        first = (bundle / "config.json").read_bytes(), (bundle / "policy_preprocessor.json").read_bytes()
        localize(bundle)
        assert ((bundle / "config.json").read_bytes(), (bundle / "policy_preprocessor.json").read_bytes()) == first
        assert json.loads(first[0])["vlm_model_name"] == str(folder)
        assert str(folder) in first[1].decode()

    def test_localized_bundle_still_moves_and_is_saved_without_the_path(self, bundle: Path, tmp_path: Path) -> None:
        localize(bundle)
        moved = bundle.rename(tmp_path / "moved")
        saved = save_bundle(load_policy(moved, device="cpu"), tmp_path / "saved")
        assert str(tmp_path) not in (saved / "config.json").read_text()
        assert str(tmp_path) not in (saved / "policy_preprocessor.json").read_text()

    def test_other_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            localize(tmp_path)


class TestRunning:
    def test_select_action_plans_again_after_the_horizon(self, policy: Policy, dataset: Dataset) -> None:
        calls = []
        predict = policy.predict
        policy.predict = lambda *args, **more: calls.append(1) or predict(*args, **more)  # type: ignore[method-assign]
        try:
            policy.n_action_steps = 2
            frame = dataset[0]
            first = [policy.select_action(frame) for _ in range(4)]
            assert len(calls) == 2
            assert first[0].shape == (3,)
            policy.reset()
            policy.select_action(frame)
            assert len(calls) == 3
        finally:
            del policy.predict
            policy.n_action_steps = 10

    def test_batch_equals_frames_one_by_one(self, policy: Policy, dataset: Dataset) -> None:
        frames = [dataset[0], dataset[20]]
        draws = torch.stack([noise(policy), noise(policy).flip(0)])
        both = policy.predict_chunks(frames, draws)
        for i, frame in enumerate(frames):
            torch.testing.assert_close(both[i], policy.predict_chunk(frame, draws[i]), rtol=1e-5, atol=1e-5)

    def test_noise_of_numpy_and_of_a_wrong_shape(self, policy: Policy, dataset: Dataset) -> None:
        draw = torch.randn(12, 32, generator=torch.Generator().manual_seed(1))
        chunk = policy.predict_chunk(dataset[0], draw)
        assert torch.equal(policy.predict_chunk(dataset[0], draw.numpy().astype(np.float64)), chunk)
        for shape in ((50, 32), (1, 12, 32)):
            with pytest.raises(TransformError, match="noise of 1 frames") as caught:
                policy.predict_chunk(dataset[0], torch.zeros(shape))
            assert str([1, *shape]) in caught.value.found
            assert "[1, 12, 32]" in caught.value.expected

    def test_a_list_is_no_frame(self, policy: Policy, dataset: Dataset) -> None:
        with pytest.raises(TransformError, match="given a list"):
            policy.predict_chunk([dataset[0]])  # type: ignore[arg-type]

    @pytest.mark.parametrize("steps", [0, 13, 2.5, True])
    def test_impossible_horizon(self, policy: Policy, steps: object) -> None:
        with pytest.raises(UsageError, match="1 to 12"):
            policy.n_action_steps = steps  # type: ignore[assignment]

    def test_repr_and_report_say_what_it_is(self, policy: Policy, bundle: Path) -> None:
        assert "toy_arm" in repr(policy)
        text = str(load_policy(bundle, device="cpu").report)
        assert "bundle" in text
        assert f"{policy.report.parameters:,}" in text
        assert "lm_head" in text
