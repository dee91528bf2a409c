"""The folder of the vision-language model: its config, tokenizer and processor files, kept as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.errors import CheckpointError
from smolpilot.common.safe_paths import OwnFiles
from smolpilot.common.text import format_bytes

from .json_file import is_pointer, parse_object
from .vlm_config import VLMConfig

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
# What transformers' AutoConfig, AutoTokenizer and AutoProcessor read of a SmolVLM folder.
FILES = (
    CONFIG,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
)
LARGEST = 64_000_000
"""Bytes of one of them: the largest known tokenizer has half of it."""


@dataclass(frozen=True)
class VLMFolder:
    """`files` maps a file name to its content; `origin` says where they came from, for messages."""

    files: dict[str, bytes]
    origin: str

    @classmethod
    def read(cls, folder: str | Path) -> VLMFolder:
        """Read the known files of a folder; CheckpointError for a Git-LFS pointer and for a file beyond `LARGEST`."""
        path = Path(folder)
        if not path.is_dir():
            raise CheckpointError(f"The vision-language model folder {path} does not exist.", fix="check the path")
        there = [name for name in FILES if (path / name).is_file()]
        # In a checkpoint the folder is `vlm`: a link within the checkpoint is its own.
        places = OwnFiles(path.parent if path.name == "vlm" else path, "folder")
        for name in there:
            if reason := places.why_not(path / name):
                # They are copied into every checkpoint and export: a link would take other files along.
                raise CheckpointError(f"{path / name} {reason}: it is not read.", fix=places.advice(reason))
        return cls({name: _read(path / name) for name in there}, str(path))

    def write(self, folder: Path) -> None:
        """Write the files into a new folder."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, {} when it is absent."""
        return parse_object(self.files[name], f"{self.origin}/{name}") if name in self.files else {}

    @property
    def has_tokenizer(self) -> bool:
        return TOKENIZER in self.files

    def config(self) -> VLMConfig | None:
        """The dimensions of the model, None when the folder has no config.json."""
        return VLMConfig.from_json(self.json(CONFIG), f"{self.origin}/{CONFIG}") if CONFIG in self.files else None

    def with_config(self, config: VLMConfig) -> VLMFolder:
        """The same folder with the config.json of `config`."""
        text = json.dumps(config.to_json(), indent=2)
        return VLMFolder({**self.files, CONFIG: text.encode()}, self.origin)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise CheckpointError(
                f"{path} has {format_bytes(size)}.",
                expected=f"at most {format_bytes(LARGEST)}, as every file of a SmolVLM2 folder has",
                fix="take the file that belongs to the policy",
            )
        if is_pointer(path):
            raise CheckpointError(f"{path} is a Git-LFS pointer, not the file itself.", fix="run `git lfs pull` there")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
