"""Options of a training run: the keys of `smolpilot train`, of its YAML file and of a run's config.yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.option_types import (
    AnySteps,
    AtLeastOne,
    Count,
    Few,
    Flag,
    Limit,
    Pairs,
    PositiveRate,
    PositiveSize,
    Rate,
    Seed,
    Seeds,
    Shares,
    Size,
    Steps,
    Tokens,
    check_numbers,
    check_truths,
)
from smolpilot.common.text import shown

from .memory_presets import fill_memory
from .sources import Source, Sources, check_sources


@dataclass(frozen=True)
class TrainOptions:
    """Fine-tune a policy on a dataset, or train one from scratch.

    Every option is also a key of a YAML file (--config FILE; options given beside it win). Options that are
    not given get their value from the preset and the dataset; the complete list is printed and kept in OUT/config.yaml.
    """

    dataset: Path | None = None
    """Folder of a LeRobot dataset (v2.0, v2.1 or v3.0)."""
    mixture: Sources = ()
    """Several datasets of one robot instead of --dataset, each sample drawn by weight, as `data/red=0.2
    data/blue=0.8`; without weights by their frames. In YAML a list of mappings with dataset, weight, episodes,
    instruction."""
    balance: Literal["frames", "tasks"] = "frames"
    """What is drawn equally often: frames, or instructions (within each weighted dataset, else within all)."""
    order: Literal["random", "local"] = "random"
    """Order of the samples, each once per epoch: all at random, or `local`: in windows of 256 samples from about 128
    places of the dataset. For datasets that are decoded while training: of a window no frame is decoded twice."""
    stages: Path | None = None
    """YAML file of several tasks to train in sequence (docs/stages.md); the other options hold for every stage."""
    out: Path | None = None
    """Run folder to create, or with --resume the run to continue."""
    robot: str | None = None
    """Robot profile: a shipped name (smolpilot robot list) or a YAML file; `none`: no profile. Default: by the
    dataset's robot_type, else by its joint names, else one derived from the dataset."""
    policy: str | None = None
    """Policy to fine-tune: a bundle or LeRobot checkpoint folder, or a hub id."""
    preset: Literal["tiny", "smolvla"] | None = None
    """Architecture to train from random weights; needs --from-scratch."""
    from_scratch: bool = False
    """Train everything, the vision-language model too, from random weights."""
    train_expert_only: bool | None = None
    """Train the action expert and the projections around it, with vision and language frozen (SmolVLA's recipe, and
    what the frame cache needs). Default: as the parent was trained; from scratch everything is trained."""
    freeze_vision: bool | None = None
    """Keep the vision tower frozen where the language model is trained (with --no-train-expert-only). Default:
    trained or frozen with the language model."""
    lora: Tokens | None = None
    """Fine-tune adapters of this rank beside the expert's frozen weights (LoRA, needs peft), and the small projections
    around it; a checkpoint's bundle has them merged. For little memory and few demonstrations, such as 32."""
    lora_alpha: PositiveSize | None = None
    """Scale of the adapters times their rank. Default: the rank."""
    lora_targets: str | None = None
    """Regular expression of the linear layers that get adapters. Layers of `text` or `vision` forgo the
    frame cache. Default: `expert\\..*_proj`."""
    tokenizer: Path | None = None
    """Folder with the tokenizer of --preset smolvla (its vocabulary is not shipped)."""

    steps: Steps | None = None
    """Optimizer steps; the learning rate decays over exactly these."""
    batch_size: Annotated[Count, Limit(65_536, above=0)] | None = None
    """Samples per step. `auto`: 64 (SmolVLA's; 32 for tiny) in micro-batches as large as the memory takes, by trying.
    Default: 32 for tiny, 8 otherwise."""
    micro_batch: Annotated[Count, Limit(65_536, above=0)] | None = None
    """Samples that go through the network at once; gradients add up to those of the whole batch. For little memory;
    `auto` tries how many fit. Default: the whole batch."""
    memory: Literal["8", "12", "24", "80", "cpu"] | None = None
    """Batch, micro-batch and dtype for a GPU of so many GB, or for a CPU, where they are not given."""
    lr: PositiveRate | None = None
    """Peak learning rate. Default: 2e-3 for tiny, 1e-4 otherwise (SmolVLA's)."""
    warmup_steps: AnySteps | None = None
    """Steps of linear warm-up. Default: SmolVLA's 1000, scaled by steps / 30000 for runs under 30000 steps."""
    decay_lr: Rate | None = None
    """Learning rate at the last step, after cosine decay. Default: lr / 40 (SmolVLA's ratio)."""
    weight_decay: Size = 1e-10
    """AdamW's weight decay."""
    clip: PositiveSize = 10.0
    """Largest gradient norm; larger gradients are scaled down."""
    seed: Seed = 0
    """Seed of the weights, the split, the order of samples, the noise."""
    seeds: Seeds = ()
    """Train the recipe once for each of these seeds, as `0,1,2`, into OUT/seed_0 and so on, and tell its spread between
    seeds from that over episodes. All hold out the same episodes. The same command resumes."""
    split_seed: Seed | None = None
    """Seed of which episodes are held out. Default: --seed; with --seeds the first of them."""
    ema: Rate | None = None
    """Keep a running average of the trained weights (EMA) with this decay, such as 0.999: the average is validated
    and saved as the policy, training continues with the weights themselves. Default: no average."""
    patience: Steps | None = None
    """Stop when this many validations in a row bring no smaller held-out error. Default: train to the last step."""

    augment: Shares = field(default_factory=dict)
    """Image augmentation with its probability per image, as `crop=0.8 color=0.8 blur=0.1 erase=0.2`. Helps against
    overfitting on few demonstrations; validation images are never changed. Default: none."""

    chunk_size: Tokens | None = None
    """Actions predicted at once. Default: the policy's (50)."""
    n_action_steps: Tokens | None = None
    """Execution horizon: actions run before planning again. Default: 10, or the chunk when that is shorter."""
    max_tokens: Tokens | None = None
    """Room for an instruction, in tokens (LeRobot's tokenizer_max_length). Default: the policy's (48), and for the
    byte-level tokenizer of tiny what the longest instruction needs."""
    camera_map: Pairs = field(default_factory=dict)
    """Which robot camera fills which camera slot of the policy, as `top=camera1 wrist=camera2`. A camera that is not
    used: `side=none`; one for which the parent gets a further slot: `side=new`. Default: the policy's own map and equal
    names; where these leave a choice, the map is required."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `elbow=deg`, or `all=deg` for every
    rotary joint: rad, deg, m, mm; fraction, percent, byte of a gripper's way. The policy works in the profile's."""
    norm_stats: Literal["parent", "dataset", "merged"] | None = None
    """Statistics to normalize with when fine-tuning: the parent's, the dataset's, or both merged (a parent's skills
    suffer from every change of scale). Default: the parent's when its robot has the same joints and the dataset lies
    near them (a large drift stops), else the dataset's."""
    norm_stats_file: Path | None = None
    """File of statistics to normalize with instead (statistics.json, as --stages writes it for all of its stages)."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the parent policy's own, for a parent without usable ones."""

    episodes: str | None = None
    """Episodes to use, such as `0-40,45`; the others are not read at all. Default: all."""
    held_out: Rate = 0.1
    """Share of the episodes held out for validation (at least one where there are two); 0 trains on all."""
    eval_every: Steps | None = None
    """Steps between validations on the held-out episodes. Default: steps / 5."""
    eval_frames: Steps = 128
    """Held-out frames scored at a validation, spread evenly."""
    save_every: Steps | None = None
    """Steps between checkpoints. Default: steps / 5."""
    keep: Steps = 2
    """Newest checkpoints kept, besides the best one."""
    log_every: Steps | None = None
    """Steps between lines of metrics.jsonl. Default: steps / 200, at most 50."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Arithmetic of the network. bfloat16 and float16 mean mixed precision: weights and optimizer stay float32. float16
    is for GPUs without bfloat16; its losses are scaled, and steps that overflow are skipped and counted. Default:
    float32, or that of --memory."""
    compile: bool = False
    """Compile the action expert with torch.compile: minutes at the start, for long runs on a GPU."""
    cache: Literal["auto", "none", "vision", "prefix"] = "auto"
    """What a frozen vision-language model makes of each frame, kept on disk and exact: image tokens (vision), or all
    keys and values of images and instruction (prefix, ten times faster and ten times larger). `auto`: the
    fastest that fits into half of the free disk, where the run is long enough to gain by it."""
    cache_dtype: Literal["float32", "bfloat16", "float16", "fp8", "int8"] | None = None
    """Coarser numbers in the cache of training frames, at a loss that is measured and shown; validation stays exact.
    Default: those of the model."""
    cache_views: AtLeastOne | None = None
    """With --augment: keep this many changed views of each frame in the cache, and draw one at each step."""
    cache_dir: Path | None = None
    """Folder of the cache, shared between runs. Default: smolpilot/frames in the user's cache folder."""
    workers: Few | None = None
    """Processes that decode video while training, for datasets too large for memory. Default: 2."""
    frames_gb: Size | None = None
    """Memory for decoded video in GB; a larger dataset is decoded while training. Default: half of what is free."""
    track: Literal["none", "wandb", "trackio"] = "none"
    """Tracker that gets the metrics, too; it must be installed. Without network unless its own settings say otherwise
    (WANDB_MODE, TRACKIO_SPACE_ID)."""
    overfit: bool = False
    """Self-test instead of a run: overfit a few frames of the first of --episodes, and tell data trouble from model
    trouble where that fails. Needs no --out, writes nothing."""
    preflight: bool = True
    """Stop on the errors of `smolpilot preflight`, such as degrees taken for radians."""
    resume: Flag = False
    """Continue the run in OUT from its last checkpoint, with its own config.yaml."""

    @property
    def split(self) -> int:
        """The seed of which episodes are held out."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def sources(self) -> tuple[Source, ...]:
        """The datasets of a run; with --dataset a single one."""
        if self.mixture:
            return self.mixture
        assert self.dataset is not None
        return (Source(self.dataset, episodes=self.episodes),)


AUGMENTATIONS = ("color", "crop", "blur", "erase")

# What may differ when a run is resumed: nothing of this changes the trained weights on one machine.
FREE_ON_RESUME = frozenset(
    {
        "cache_dir",
        "device",
        "workers",
        "frames_gb",
        "keep",
        "save_every",
        "preflight",
        "overfit",
        "resume",
        "out",
        "dataset",
    }
)


def check(options: TrainOptions) -> TrainOptions:
    """Refuse contradictory options; a UsageError names them. Returns the options."""
    check_numbers(options)
    _check_missing(options)
    for given, found, fix in _contradictions(options):
        if given:
            raise UsageError(found, fix=fix)
    check_sources(options.mixture)
    _check_augment(options.augment)
    if options.ema is not None and not 0 < options.ema < 1:
        raise UsageError(f"--ema is {options.ema}.", expected="a decay between 0 and 1, such as 0.999")
    if not 0 <= options.held_out < 1:
        raise UsageError(f"--held-out is {options.held_out}.", expected="a share from 0 to below 1, such as 0.1")
    return options


def _check_augment(kinds: Mapping[str, float]) -> None:
    for kind, share in kinds.items():
        if kind not in AUGMENTATIONS:
            raise UsageError(f"--augment names '{kind}'.", fix=did_you_mean(kind, AUGMENTATIONS))
        if not 0 <= share <= 1:
            raise UsageError(f"--augment {kind}={share}.", expected="a probability from 0 to 1, such as 0.5")


def _check_missing(options: TrainOptions) -> None:
    """All that is missing in one error."""
    asked = [
        (options.dataset is None and not options.mixture, "--dataset is missing", "--dataset DATASET (a folder)"),
        (
            options.policy is None and options.preset is None,
            "there is nothing to train (no --policy)",
            "--policy BUNDLE_OR_HUB_ID to fine-tune, or --preset tiny|smolvla --from-scratch",
        ),
        (options.steps is None, "--steps is missing", "--steps 3000"),
        (options.out is None, "--out is missing", "--out runs/first"),
    ]
    missing = [(found, fix) for is_missing, found, fix in asked if is_missing]
    if missing:
        found = "; ".join(text for text, _ in missing)
        raise UsageError(f"{found[0].upper() if found[0] != '-' else '-'}{found[1:]}.",
                         fix=f"add {'; '.join(fix for _, fix in missing)}")  # fmt: skip


def _contradictions(one: TrainOptions) -> list[tuple[object, str, str]]:
    """What excludes each other: whether it was given, what was found, what to do."""
    from_parent = one.norm_stats in ("parent", "merged") or one.policy_stats_from is not None
    return [
        (one.mixture and one.dataset is not None,
         "--dataset and --mixture exclude each other.",
         "name every dataset in --mixture, with its weight"),
        (one.mixture and one.episodes is not None,
         "--episodes belongs to --dataset.",
         "give each dataset its own: `mixture:` in a --config file"),
        (one.norm_stats_file is not None and (one.norm_stats, one.policy_stats_from) != (None, None),
         "--norm-stats-file excludes --norm-stats and --policy-stats-from.",
         "give one of them"),
        (one.policy is not None and (one.preset is not None or one.from_scratch),
         "--policy and --preset/--from-scratch exclude each other.",
         "--policy fine-tunes trained weights; --preset NAME --from-scratch starts from random ones"),
        (one.preset is not None and not one.from_scratch,
         f"--preset {one.preset} starts from random weights, and SmolVLA's recipe would keep its random "
         "vision-language model frozen: such a policy learns nothing.",
         f"fine-tune with --policy, or say --preset {one.preset} --from-scratch to train all of it"),
        (one.from_scratch and one.train_expert_only,
         "--train-expert-only would keep the random vision-language model of --from-scratch frozen.",
         "leave it out, or fine-tune with --policy"),
        (one.from_scratch and one.freeze_vision is not None,
         "--freeze-vision would keep random weights of --from-scratch.",
         "leave it out"),
        (one.freeze_vision is False and one.train_expert_only,
         "--no-freeze-vision contradicts --train-expert-only.",
         "--train-expert-only freezes vision too"),
        (one.preset == "smolvla" and one.tokenizer is None,
         "--preset smolvla needs a tokenizer.",
         "--tokenizer FOLDER with the tokenizer of SmolVLM2-500M-Video-Instruct"),
        (one.policy is None and from_parent,
         "--norm-stats parent, --norm-stats merged and --policy-stats-from are for fine-tuning.",
         "add --policy, or leave them out"),
        (one.patience is not None and one.held_out == 0,
         "--patience needs a held-out error, but --held-out 0 holds out no episode.",
         "leave one of the two out"),
        (one.lora is None and (one.lora_alpha is not None or one.lora_targets is not None),
         "--lora-alpha and --lora-targets belong to --lora.",
         "add --lora 32, or leave them out"),
        (one.lora is not None and one.from_scratch,
         "--lora trains little beside frozen weights, and those of --from-scratch are random.",
         "fine-tune a trained policy with --policy, or leave --lora out"),
        (one.cache_views is not None and not any(one.augment.values()),
         f"--cache-views {one.cache_views}, but no image is changed.",
         "say how with --augment, for example --augment crop=0.8 color=0.8; or leave --cache-views out"),
        (one.warmup_steps is not None and one.steps is not None and one.warmup_steps >= one.steps,
         f"--warmup-steps {one.warmup_steps} does not end before --steps {one.steps}.",
         "leave --warmup-steps out: it follows the steps"),
    ]  # fmt: skip


def resolve(options: TrainOptions) -> TrainOptions:
    """Fill what was not given from preset and steps; the same options always resolve to the same values."""
    steps = options.steps or 1
    tiny = options.preset == "tiny"
    lr = options.lr if options.lr is not None else (2e-3 if tiny else 1e-4)
    fifth = max(1, steps // 5)
    values: dict[str, Any] = {
        "lr": lr,
        **fill_memory(options.memory, vars(options), tiny=tiny),
        "warmup_steps": _open(options.warmup_steps, min(1000, 1000 * steps // 30_000)),
        "decay_lr": _open(options.decay_lr, lr / 40),
        "eval_every": options.eval_every or fifth,
        "save_every": options.save_every or fifth,
        "log_every": options.log_every or max(1, min(50, steps // 200)),
        "workers": _open(options.workers, 2),
    }
    return dataclasses.replace(options, **values)


def options_of(values: Mapping[str, Any], where: str = "") -> TrainOptions:
    """Options from the mapping of a YAML file; a UsageError names the key with a wrong value, `where` before it."""
    import pydantic  # takes a while, and most commands read no file

    try:
        made: TrainOptions = pydantic.TypeAdapter(TrainOptions).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}'{key}' is {shown(first['input'])}: {first['msg']}.") from error
    check_truths(values, made, where=where)
    return made


def absolute_paths(options: TrainOptions) -> TrainOptions:
    """The options with paths that hold from any working directory."""
    paths = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
    changes: dict[str, Any] = {name: path.expanduser().absolute() for name, path in paths.items()}
    changes["mixture"] = tuple(
        dataclasses.replace(source, dataset=source.dataset.expanduser().absolute()) for source in options.mixture
    )
    # A hub id or a shipped robot's name is no path, even where a folder of that name lies here.
    if options.policy is not None and Path(options.policy).expanduser().exists():
        changes["policy"] = str(Path(options.policy).expanduser().absolute())
    if options.robot is not None and (options.robot.endswith((".yaml", ".yml")) or "/" in options.robot):
        changes["robot"] = str(Path(options.robot).expanduser().absolute())
    return dataclasses.replace(options, **changes)


def check_resume(given: TrainOptions, saved: TrainOptions) -> TrainOptions:
    """The saved options with the free ones of `given`; another difference is a UsageError."""
    changed = {
        name: f"{value} -> {getattr(given, name)}"
        for name, value in vars(saved).items()
        if name not in FREE_ON_RESUME and getattr(given, name) != value
    }
    if changed:
        text = ", ".join(f"--{name.replace('_', '-')} {change}" for name, change in changed.items())
        raise UsageError(
            f"--resume continues the run as it was, but these differ: {text}.",
            fix="leave them out, or start a new run from the checkpoint: --policy OUT/checkpoints/last --out NEW",
        )
    return dataclasses.replace(saved, **{name: getattr(given, name) for name in FREE_ON_RESUME})


def _open[T](value: T | None, default: T) -> T:
    return default if value is None else value
