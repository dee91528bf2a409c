"""What a checkpoint's weights may look like on disk, and what is wrong with them: found once, at loading, by name."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.smolvla import load_policy, save_bundle

HEAD = "model.action_out_proj.weight"
EXPERT = "model.vlm_with_expert.lm_expert.norm.weight"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def edit(bundle: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(bundle / "model.safetensors")
    change(weights)
    save_file(weights, bundle / "model.safetensors")


def split(bundle: Path) -> dict[str, str]:
    """Two shards with their index in place of the one file; the index's weight_map."""
    weights = load_file(bundle / "model.safetensors")
    (bundle / "model.safetensors").unlink()
    halves = [sorted(weights)[::2], sorted(weights)[1::2]]
    for name, half in zip(SHARDS, halves, strict=True):
        save_file({key: weights[key] for key in half}, bundle / name, metadata={"format": "pt"})
    listed = {key: name for name, half in zip(SHARDS, halves, strict=True) for key in half}
    write_index(bundle, listed)
    return listed


def write_index(bundle: Path, listed: object) -> None:
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": listed})
    (bundle / "model.safetensors.index.json").write_text(text)


def state(path: Path) -> dict[str, Tensor]:
    return load_policy(path, device="cpu").model.state_dict()


class TestShards:
    def test_the_same_weights_as_from_one_file(self, bundle: Path, saved: Path, tmp_path: Path) -> None:
        split(bundle)
        expected = state(saved)
        for name, value in state(bundle).items():
            assert torch.equal(value, expected[name]), name
        # The language head, which the network does not read, comes along when the policy is saved as one file.
        again = save_bundle(load_policy(bundle, device="cpu"), tmp_path / "again")
        assert load_file(again / "model.safetensors").keys() == load_file(saved / "model.safetensors").keys()

    def test_all_missing_shards_are_named(self, bundle: Path) -> None:
        split(bundle)
        for name in SHARDS:
            (bundle / name).unlink()
        with pytest.raises(CheckpointError, match="lacks 2 of the 2 shards") as caught:
            load_policy(bundle, device="cpu")
        assert all(name in caught.value.found for name in SHARDS)

    def test_torn_shard(self, bundle: Path) -> None:
        split(bundle)
        path = bundle / SHARDS[1]
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=f"{SHARDS[1]} is damaged or torn"):
            load_policy(bundle, device="cpu")

    def test_a_tensor_in_two_shards(self, bundle: Path) -> None:
        listed = split(bundle)
        other = SHARDS[1] if listed[HEAD] == SHARDS[0] else SHARDS[0]
        weights = load_file(bundle / other)
        save_file({**weights, HEAD: load_file(bundle / listed[HEAD])[HEAD]}, bundle / other)
        with pytest.raises(CheckpointError, match=f"{HEAD} is in two shards") as caught:
            load_policy(bundle, device="cpu")
        assert all(name in caught.value.found for name in SHARDS)

    def test_a_tensor_that_is_not_where_the_index_says(self, bundle: Path) -> None:
        listed = split(bundle)
        weights = load_file(bundle / listed[HEAD])
        del weights[HEAD]
        save_file(weights, bundle / listed[HEAD])
        with pytest.raises(CheckpointError, match=f"says that {HEAD} is in {listed[HEAD]}"):
            load_policy(bundle, device="cpu")

    def test_a_shard_that_the_index_does_not_list(self, bundle: Path) -> None:
        listed = split(bundle)
        write_index(bundle, {key: name for key, name in listed.items() if name == SHARDS[0]})
        with pytest.raises(CheckpointError, match=f"{SHARDS[1]} is not in the index"):
            load_policy(bundle, device="cpu")
        write_index(bundle, listed)
        shutil.copy(bundle / SHARDS[0], bundle / "model-00003-of-00003.safetensors")
        assert any("model-00003-of-00003" in note for note in load_policy(bundle, device="cpu").report.notes)

    def test_shards_without_index(self, bundle: Path) -> None:
        split(bundle)
        (bundle / "model.safetensors.index.json").unlink()
        with pytest.raises(CheckpointError, match=r"2 shards .* no model\.safetensors\.index\.json"):
            load_policy(bundle, device="cpu")

    @pytest.mark.parametrize("name", ["../{}", "/etc/{}", "sub/{}", "..\\{}", "weights.bin", ""])
    def test_an_index_that_leads_out_of_the_folder(self, name: str, bundle: Path) -> None:
        listed = split(bundle)
        path = name.format(SHARDS[0])
        if name.startswith("../"):
            shutil.move(bundle / SHARDS[0], bundle.parent)
        write_index(bundle, {key: path if shard == SHARDS[0] else shard for key, shard in listed.items()})
        with pytest.raises(CheckpointError, match=re.escape(f"lists the shard {path!r}")):
            load_policy(bundle, device="cpu")

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
    def test_damaged_index(self, text: str, bundle: Path) -> None:
        split(bundle)
        (bundle / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load_policy(bundle, device="cpu")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.target, "w"))


class TestPickles:
    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "policy.ckpt"])
    def test_named_and_never_opened(self, name: str, bundle: Path, tmp_path: Path) -> None:
        (bundle / "model.safetensors").unlink()
        (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
        with pytest.raises(CheckpointError, match=f"pickle, .*{name}; it is not opened"):
            load_policy(bundle, device="cpu")
        assert not (tmp_path / "ran").exists()

    def test_the_way_out_works(self, bundle: Path, saved: Path) -> None:
        weights = load_file(bundle / "model.safetensors")
        (bundle / "model.safetensors").unlink()
        halves = [{key: value for i, (key, value) in enumerate(weights.items()) if i % 2 == part} for part in (0, 1)]
        for part, half in enumerate(halves):
            torch.save(half, bundle / f"pytorch_model-0000{part + 1}-of-00002.bin")
        with pytest.raises(CheckpointError, match="and 1 more") as caught:
            load_policy(bundle, device="cpu")
        command = re.search(r'python -c "(.*)"$', caught.value.fix)
        assert command is not None
        exec(command.group(1), {})
        expected = state(saved)
        assert all(torch.equal(value, expected[name]) for name, value in state(bundle).items())

    def test_adapter(self, bundle: Path, tmp_path: Path) -> None:
        folder = tmp_path / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(bundle)}))
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
        with pytest.raises(CheckpointError, match=r"adapter_model\.bin; it is not opened") as caught:
            load_policy(folder, device="cpu")
        assert "adapter_model.safetensors" in caught.value.fix
        assert not (tmp_path / "ran").exists()


class TestNumbers:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    @pytest.mark.parametrize("sharded", [False, True])
    def test_nan_and_infinity_are_counted_per_tensor(self, dtype: torch.dtype, sharded: bool, bundle: Path) -> None:
        def damage(weights: dict[str, Tensor]) -> None:
            for name in weights:
                weights[name] = weights[name].to(dtype)
            weights[HEAD][0, :2] = float("nan")
            weights[HEAD][1, 0] = float("-inf")
            weights[EXPERT][3] = float("inf")

        edit(bundle, damage)
        size = load_file(bundle / "model.safetensors")[HEAD].numel()
        where = split(bundle)[HEAD] if sharded else "model.safetensors"
        with pytest.raises(CheckpointError) as caught:
            load_policy(bundle, device="cpu")
        assert f"{HEAD}: 2 NaN and 1 infinite of {size:,} values" in caught.value.found
        assert f"{EXPERT}: 1 infinite of" in caught.value.found
        assert str(bundle / where) in caught.value.found

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_finite_numbers_that_no_training_gives(self, dtype: torch.dtype, bundle: Path) -> None:
        """Three of them in padded dimensions change the actions, which stay finite."""

        def damage(weights: dict[str, Tensor]) -> None:
            weights[HEAD] = weights[HEAD].to(dtype)
            weights[HEAD][-1, :3] = -1e38

        edit(bundle, damage)
        with pytest.raises(CheckpointError, match=rf"{HEAD}: 3 beyond 1e\+20 of "):
            load_policy(bundle, device="cpu")

    def test_the_same_words_in_every_verb(
        self, bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        edit(bundle, lambda weights: weights[HEAD][0, 0].fill_(float("nan")))
        path, data = str(bundle), str(tiny_dataset)
        verbs = [
            ["bundle", path],
            ["preflight", "--dataset", data, "--policy", path, "--json"],
            ["train", "--dataset", data, "--policy", path, "--out", str(tmp_path / "run"), "--steps", "1"],
            ["eval", path, "--dataset", data, "--out", str(tmp_path / "eval")],
            ["bench", path],
            ["export", path, "--out", str(tmp_path / "export")],
            ["rollout", path, "--out", str(tmp_path / "rollout")],
        ]
        for verb in verbs:
            assert main(verb) == 1, verb
            said = "".join(capsys.readouterr())
            assert f"{HEAD}: 1 NaN of" in said, verb
            assert "model.safetensors" in said, verb
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]

    def test_eval_of_predictions_that_are_not_finite_exits_1(
        self, bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Finite weights that compute infinity."""

        def enlarge(weights: dict[str, Tensor]) -> None:
            weights[HEAD].fill_(9e19)
            weights[EXPERT].fill_(9e19)  # what the head is multiplied with

        edit(bundle, enlarge)
        args = ["eval", str(bundle), "--dataset", str(tiny_dataset), "--out", str(tmp_path / "eval"), "--no-preflight"]
        assert main([*args, "--episodes", "0", "--max-frames", "1", "--num-steps", "1"]) == 1
        assert "fails: predictions hold NaN or infinite values" in capsys.readouterr().out
        assert (tmp_path / "eval" / "metrics.json").is_file()

    def test_what_no_action_depends_on_may_be_anything(self, bundle: Path) -> None:
        edit(bundle, lambda weights: weights["model.vlm_with_expert.vlm.lm_head.weight"].fill_(float("nan")))
        assert load_policy(bundle, device="cpu").report.missing == []

    @pytest.mark.parametrize(
        ("dtype", "words"),
        [
            (torch.int8, "int8"), (torch.uint8, "uint8"), (torch.int64, "int64"), (torch.bool, "truth values"),
            (torch.float8_e4m3fn, r"float8 \(e4m3\)"), (torch.float8_e5m2, r"float8 \(e5m2\)"),
        ],
    )  # fmt: skip
    def test_what_is_no_weight(self, dtype: torch.dtype, words: str, bundle: Path) -> None:
        edit(bundle, lambda weights: weights.update({HEAD: weights[HEAD].to(dtype)}))
        with pytest.raises(CheckpointError, match=rf"1 of \d+ weights .* are {words} \({HEAD}\).*without their scales"):
            load_policy(bundle, device="cpu")

    def test_scales_of_another_tool_are_named(self, bundle: Path) -> None:
        more = {HEAD: torch.zeros(32, 48, dtype=torch.int8), f"{HEAD}_scale": torch.ones(32)}
        edit(bundle, lambda weights: weights.update(more))
        with pytest.raises(CheckpointError, match=f"int8 .*scales of another tool .{HEAD}_scale"):
            load_policy(bundle, device="cpu")

    def test_a_dtype_too_narrow_for_the_weights(self, bundle: Path) -> None:
        edit(bundle, lambda weights: weights[HEAD][0, 0].fill_(1e6))
        with pytest.raises(UsageError, match=r"reaches 1e\+06, too much for float16"):
            load_policy(bundle, device="cpu", dtype="float16")
        assert load_policy(bundle, device="cpu", dtype="bfloat16").report.dtype == "bfloat16"

    def test_a_weight_under_two_names(self, bundle: Path) -> None:
        edit(bundle, lambda weights: weights.update({f"_orig_mod.{HEAD}": weights[HEAD] + 1}))
        with pytest.raises(CheckpointError, match=f"holds {HEAD} twice"):
            load_policy(bundle, device="cpu")
