from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.training.options.train_options import TrainOptions, absolute_paths, resolve
from smolpilot.training.run.run_folder import create, load_config, refuse_existing


def test_the_saved_config_reads_back_as_the_same_options(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    options = resolve(
        TrainOptions(
            dataset=tmp_path / "d",
            out=out,
            policy="owner/name",
            steps=100,
            camera_map={"top": "camera1"},
            units={"all": "deg"},
        )
    )
    create(out, options, {"python": "3"})
    assert load_config(out) == options
    assert json.loads((out / "environment.json").read_text()) == {"python": "3"}
    assert (out / "checkpoints").is_dir()


def test_a_folder_that_exists_is_refused_and_a_run_names_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        refuse_existing(tmp_path)
    out = tmp_path / "run"
    create(out, resolve(TrainOptions(dataset=tmp_path, out=out, policy="p", steps=5)), {})
    with pytest.raises(UsageError, match="already contains a run") as caught:
        create(out, TrainOptions(out=out), {})
    assert "--resume" in caught.value.fix


def test_no_run_and_damaged_configs_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        load_config(tmp_path)
    (tmp_path / "config.yaml").write_text("stepz: 4\n")
    with pytest.raises(UsageError, match="stepz") as caught:
        load_config(tmp_path)
    assert "'steps'" in caught.value.fix
    (tmp_path / "config.yaml").write_text("steps: many\n")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)


def test_paths_become_absolute_and_names_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "so101").mkdir()
    options = TrainOptions(dataset=Path("d"), out=Path("o"), policy="bundle", robot="so101")
    found = absolute_paths(options)
    assert found.dataset == tmp_path / "d"
    assert (found.policy, found.robot) == (str(tmp_path / "bundle"), "so101")
    hub = dataclasses.replace(options, policy="lerobot/smolvla_base", robot="mine/arm.yaml")
    assert absolute_paths(hub).policy == "lerobot/smolvla_base"
    assert absolute_paths(hub).robot == str(tmp_path / "mine" / "arm.yaml")
