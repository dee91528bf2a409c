"""LeRobot's options (0.6.1, the whole of `lerobot-train --help` and of other commands), and those of others."""

from __future__ import annotations

from .foreign import Absent, Answer, Ours, Table, Unneeded, listed, renamed_cameras

_POLICY = ("policy", "bundle", "path")
_DATASET = ("dataset", "path", "src")


def table_of(verb: str) -> Table:
    """The answers for a verb: its own first, then what holds for all."""
    return {**_COMMON, **_OTHERS, **_OF_VERB.get(verb.split()[-1] if verb.startswith("dataset") else verb, {})}


def _dataset_id(value: str) -> Answer:
    """A hub id: the folder in the cache, where it is there; else the id, which the verb will say how to fetch."""
    from smolpilot.datasets.format.missing import cached_folder

    found = cached_folder(value) if value else None
    return Ours(_DATASET, (lambda _: [str(found)]) if found else None)


def _configuration(value: str) -> Answer:
    """LeRobot's way to go on with a run: its weights lie beside the configuration."""
    from pathlib import Path

    from smolpilot.training.run.run_paths import lerobot_checkpoint

    weights = lerobot_checkpoint(Path(value)) if value else None
    if weights is not None:
        return Ours(_POLICY, lambda _: [str(weights)])
    return Absent(f"--config {value or 'FILE'} says what LeRobot's training configuration is in smolpilot's options")


def _policy_type(value: str) -> Answer:
    if value.lower() in ("smolvla", ""):
        return Unneeded("only SmolVLA is trained; name the weights to start from with --policy")
    return Absent(f"only SmolVLA is trained, not {value}")


def _mixed(value: str) -> Answer:
    on = value.lower() not in ("false", "no", "none", "float32", "fp32", "32", "0")
    half = "float16" if value.lower() in ("fp16", "float16", "16") else "bfloat16"
    return Ours(("dtype",), lambda _: [half if on else "float32"])


def _lora(value: str) -> Answer:
    if value.lower() in ("false", "none", "0"):
        return Unneeded("without --lora no adapters are trained")
    return Ours(("lora",), lambda _: ["16"])


def _augmented(value: str) -> Answer:
    if value.lower() in ("false", "none", "0"):
        return Unneeded("without --augment pictures stay as they are")
    return Ours(("augment",), lambda _: ["crop=0.8", "color=0.8"])


def _tracked(value: str) -> Answer:
    if value.lower() in ("false", "none", "0", "off"):
        return Unneeded("without --track nothing is sent")
    return Ours(("track",), lambda _: ["trackio" if value.lower() == "trackio" else "wandb"])


def _checkpoints(value: str) -> Answer:
    if value.lower() == "false":
        return Absent("checkpoints are always saved; --save-every and --keep bound them")
    return Unneeded("checkpoints are always saved")


def _method(value: str) -> Answer:
    if value.upper() in ("LORA", ""):
        return Unneeded("--lora RANK is LoRA")
    return Absent(f"adapters are LoRA (--lora), not {value}")


_NETWORK = Unneeded("the network's shape comes with the checkpoint (--policy) or --preset")
_HUB = Absent("nothing is uploaded; `hf upload` does it afterwards")
_LOADING = Unneeded("loading tunes itself; --workers and --frames-gb bound it")
_ENVIRONMENT = Absent(
    "closed loop is `smolpilot rollout --env NAME` (smolpilot plugins lists names); others: lerobot-eval on the bundle"
)
_ROBOT = Absent("`record` and `rollout` run simulations; real arms: lerobot-record, then --dataset")
_RUNS_HERE = Absent("a run is local; `smolpilot train` under torchrun takes several GPUs")
_WANDB = Absent("said in wandb's own environment (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE), with --track wandb")
_FIXED_ADAM = Absent("AdamW as SmolVLA's recipe has it: betas 0.9 and 0.95, eps 1e-8")
_NOT_SMOLVLA = Absent("it belongs to another policy or optimizer; SmolVLA has none")
_COSINE = Unneeded("warm-up and cosine decay over --steps")
_EPOCHS = Absent("the length is in steps: --steps = epochs x frames / batch size (smolpilot dataset info shows frames)")
_ACCUMULATE = Absent(
    "--batch-size is what one optimizer step sees, --micro-batch what goes through the network at once: "
    "batch size x accumulation, and the batch size"
)
_REWARD = Absent("only policies are trained, no reward models")
_OVERWRITE = Absent("nothing is overwritten: choose another --out")

# By LeRobot's dotted names; `x.*` answers for all that has no line of its own.
_COMMON: Table = {
    "config_path": _configuration,
    "dataset.repo_id": _dataset_id,
    "dataset.root": Ours(_DATASET),
    "dataset.repo_type": Unneeded("a dataset is a folder"),
    "dataset.episodes": Ours(("episodes",), listed),
    "dataset.image_transforms.enable": _augmented,
    "dataset.image_transforms.*": Absent("--augment KIND=PROBABILITY chooses from crop, color, blur, erase"),
    "dataset.image_transforms": Absent("--augment KIND=PROBABILITY chooses from crop, color, blur, erase"),
    "dataset.revision": Absent("fetch it: hf download ID --repo-type dataset --revision REVISION --local-dir DATASET"),
    "dataset.use_imagenet_stats": Unneeded("SmolVLA takes pictures from -1 to 1, without statistics"),
    "dataset.video_backend": Unneeded("videos are decoded by PyAV"),
    "dataset.return_uint8": _LOADING,
    "dataset.depth_output_unit": Unneeded("SmolVLA sees no depth"),
    "dataset.streaming": Absent("a dataset is read from its folder; --frames-gb bounds the memory"),
    "dataset.eval_split": Ours(("held_out",)),
    "dataset.*": Absent("see --dataset, --episodes, --augment"),
    "env": _ENVIRONMENT,
    "env.*": _ENVIRONMENT,
    "policy": Ours(_POLICY),
    "policy.path": Ours(_POLICY),
    "policy.pretrained_path": Ours(_POLICY),
    "policy.pretrained_revision": Ours(
        ("revision",), otherwise="fetch it: hf download ID --revision REVISION --local-dir POLICY"
    ),
    "policy.type": _policy_type,
    "policy.n_obs_steps": Unneeded("SmolVLA sees one frame"),
    "policy.input_features": Unneeded("derived from the dataset"),
    "policy.output_features": Unneeded("derived from the dataset"),
    "policy.device": Ours(("device",), otherwise="it is computed on the CPU"),
    "policy.use_amp": _mixed,
    "policy.dtype": Ours(("dtype", "precision")),
    "policy.use_peft": _lora,
    "policy.push_to_hub": _HUB,
    "policy.repo_id": _HUB,
    "policy.private": _HUB,
    "policy.tags": _HUB,
    "policy.license": _HUB,
    "policy.chunk_size": Ours(("chunk_size",), otherwise="the policy's own"),
    "policy.n_action_steps": Ours(("n_action_steps", "execution_horizon"), otherwise="the policy's own"),
    "policy.normalization_mapping": Unneeded("mean and standard deviation, as SmolVLA has it"),
    "policy.max_state_dim": Unneeded("a robot with more joints widens the policy by itself"),
    "policy.max_action_dim": Unneeded("a robot with more joints widens the policy by itself"),
    "policy.resize_imgs_with_padding": _NETWORK,
    "policy.empty_cameras": Unneeded("slots without a camera are masked; --camera-map fills them"),
    "policy.adapt_to_pi_aloha": Absent("joints and units are the robot profile's (--robot, --units)"),
    "policy.use_delta_joint_actions_aloha": Absent("actions are taken as they were recorded"),
    "policy.tokenizer_max_length": Ours(("max_tokens",), otherwise="the policy's own length"),
    "policy.num_steps": Ours(("num_steps",), otherwise="denoising steps belong to the policy; eval has --num-steps"),
    "policy.use_cache": Unneeded("keys and values of the prefix are always kept"),
    "policy.freeze_vision_encoder": Ours(("freeze_vision",), otherwise="it is for training"),
    "policy.train_expert_only": Ours(("train_expert_only",), otherwise="it is for training"),
    "policy.train_state_proj": Unneeded("the projections around the expert are always trained"),
    "policy.optimizer_lr": Ours(("lr",), otherwise="it is for training"),
    "policy.optimizer_betas": _FIXED_ADAM,
    "policy.optimizer_eps": _FIXED_ADAM,
    "policy.optimizer_weight_decay": Ours(("weight_decay",), otherwise="it is for training"),
    "policy.optimizer_grad_clip_norm": Ours(("clip",), otherwise="it is for training"),
    "policy.scheduler_warmup_steps": Ours(("warmup_steps",), otherwise="it is for training"),
    "policy.scheduler_decay_steps": Unneeded("the decay ends with --steps"),
    "policy.scheduler_decay_lr": Ours(("decay_lr",), otherwise="it is for training"),
    "policy.vlm_model_name": Unneeded("it comes with the checkpoint; --tokenizer names a folder where it does not"),
    "policy.load_vlm_weights": Unneeded("all weights come with --policy (lerobot/smolvla_base holds the base's)"),
    "policy.add_image_special_tokens": _NETWORK,
    "policy.attention_mode": _NETWORK,
    "policy.prefix_length": _NETWORK,
    "policy.pad_language_to": Unneeded("padding changes no result"),
    "policy.num_expert_layers": _NETWORK,
    "policy.num_vlm_layers": _NETWORK,
    "policy.self_attn_every_n_layers": _NETWORK,
    "policy.expert_width_multiplier": _NETWORK,
    "policy.min_period": _NETWORK,
    "policy.max_period": _NETWORK,
    "policy.rtc_config": Unneeded("real-time chunking belongs to running, not to training"),
    "policy.rtc_config.*": Unneeded("real-time chunking belongs to running, not to training"),
    "policy.compile_model": Ours(("compile",), otherwise="`smolpilot bench` shows the faster engines"),
    "policy.compile_mode": Unneeded("--compile chooses it"),
    "policy.*": Absent("SmolVLA, as smolpilot has it, knows no such setting"),
    "reward_model": _REWARD,
    "reward_model.*": _REWARD,
    "output_dir": Ours(("out", "dst")),
    "job_name": Unneeded("the folder's name (--out) is the run's"),
    "resume": Ours(("resume",), otherwise="it is for training"),
    "seed": Ours(("seed",), otherwise="nothing is drawn"),
    "cudnn_deterministic": Unneeded("seeds fix all draws; kernels are torch's"),
    "num_workers": Ours(("workers", "jobs"), otherwise="it tunes itself"),
    "batch_size": Ours(("batch_size",), otherwise="it has no batches"),
    "prefetch_factor": _LOADING,
    "persistent_workers": _LOADING,
    "dataloader_multiprocessing_context": _LOADING,
    "steps": Ours(("steps",), otherwise="it is for training"),
    "env_eval_freq": _ENVIRONMENT,
    "log_freq": Ours(("log_every",), otherwise="it is for training"),
    "eval_steps": Ours(("eval_every",), otherwise="it is for training"),
    "max_eval_samples": Ours(("eval_frames", "max_frames"), otherwise="it is for training and eval"),
    "tolerance_s": Unneeded("time stamps are checked by `smolpilot dataset check`"),
    "save_checkpoint": _checkpoints,
    "save_freq": Ours(("save_every",), otherwise="it is for training"),
    "use_policy_training_preset": Unneeded("SmolVLA's recipe is the default"),
    "optimizer": Unneeded("AdamW"),
    "optimizer.type": Unneeded("AdamW"),
    "optimizer.lr": Ours(("lr",), otherwise="it is for training"),
    "optimizer.weight_decay": Ours(("weight_decay",), otherwise="it is for training"),
    "optimizer.grad_clip_norm": Ours(("clip",), otherwise="it is for training"),
    "optimizer.betas": _FIXED_ADAM,
    "optimizer.eps": _FIXED_ADAM,
    "optimizer.*": _NOT_SMOLVLA,
    "scheduler": _COSINE,
    "scheduler.type": _COSINE,
    "scheduler.name": _COSINE,
    "scheduler.num_warmup_steps": Ours(("warmup_steps",), otherwise="it is for training"),
    "scheduler.num_decay_steps": Unneeded("the decay ends with --steps"),
    "scheduler.peak_lr": Ours(("lr",), otherwise="it is for training"),
    "scheduler.decay_lr": Ours(("decay_lr",), otherwise="it is for training"),
    "scheduler.*": _NOT_SMOLVLA,
    "eval": _ENVIRONMENT,
    "eval.*": _ENVIRONMENT,
    "wandb": _tracked,
    "wandb.enable": _tracked,
    "wandb.*": _WANDB,
    "peft": _lora,
    "peft.r": Ours(("lora",), otherwise="it is for training"),
    "peft.lora_alpha": Ours(("lora_alpha",), otherwise="it is for training"),
    "peft.target_modules": Ours(("lora_targets",), otherwise="it is for training"),
    "peft.full_training_modules": Unneeded("the projections around the expert are always trained"),
    "peft.method_type": _method,
    "peft.init_type": Unneeded("adapters begin without effect, as LoRA does"),
    "job": _RUNS_HERE,
    "job.*": _RUNS_HERE,
    "save_checkpoint_to_hub": _HUB,
    "sample_weighting": Absent("--mixture DATASET=WEIGHT weighs datasets, --balance tasks weighs instructions"),
    "sample_weighting.*": Absent("--mixture DATASET=WEIGHT weighs datasets, --balance tasks weighs instructions"),
    "rename_map": Ours(
        ("camera_map",), renamed_cameras, otherwise="cameras are renamed by --camera-map of train, eval"
    ),
    "checkpoint_path": Ours(_POLICY),
    "trust_remote_code": Unneeded("no code is ever loaded from a checkpoint or dataset"),
    "robot": _ROBOT,
    "robot.*": _ROBOT,
    "teleop": _ROBOT,
    "teleop.*": _ROBOT,
    "display_data": Unneeded("`smolpilot dataset view` shows a dataset"),
    "play_sounds": Unneeded("no sounds are played"),
    "push_to_hub": _HUB,
}

_STEPS = Ours(("steps",), otherwise="it is for training")
_RATE = Ours(("lr",), otherwise="it is for training")
_BATCH = Ours(("batch_size",), otherwise="it has no batches")
_OUT = Ours(("out", "dst"))
_SAVE = Ours(("save_every",), otherwise="it is for training")
_LOG = Ours(("log_every",), otherwise="it is for training")
_VALIDATE = Ours(("eval_every",), otherwise="it is for training")
_CLIP = Ours(("clip",), otherwise="it is for training")
_WORKERS = Ours(("workers", "jobs"), otherwise="it tunes itself")
_START = Ours(_POLICY)
_DATA = Ours(_DATASET)
_TEXT = Ours(("instruction",), otherwise="instructions are the dataset's: smolpilot dataset tasks")
_WARM = Ours(("warmup_steps",), otherwise="it is for training")
_DEVICE = Ours(("device",), otherwise="it is computed on the CPU")
_PATIENCE = Ours(("patience",), otherwise="it is for training")


def _same(answer: Answer, *names: str) -> Table:
    return dict.fromkeys(names, answer)


# Other trainers' words for the same things.
_OTHERS: Table = {
    **_same(_RATE, "learning_rate", "lr_rate", "learningrate", "base_lr", "max_lr", "peak_lr", "init_lr", "lrate"),
    **_same(_STEPS, "max_steps", "num_steps_train", "train_steps", "training_steps", "total_steps", "num_train_steps"),
    **_same(_STEPS, "iterations", "max_iters", "iters", "num_iterations", "n_steps", "offline_steps", "num_steps"),
    **_same(_STEPS, "max_train_steps", "num_training_steps", "step", "nsteps", "total_iters"),
    **_same(_EPOCHS, "epochs", "num_epochs", "max_epochs", "num_train_epochs", "epoch", "n_epochs", "nepochs"),
    **_same(_BATCH, "bs", "b", "batch", "batchsize", "train_batch_size", "per_device_train_batch_size"),
    **_same(_BATCH, "global_batch_size", "batch_size_per_gpu", "eval_batch_size", "mini_batch_size"),
    **_same(_ACCUMULATE, "gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum", "accum_iter"),
    **_same(_ACCUMULATE, "gradient_accumulation", "grad_accumulation_steps", "accumulation_steps"),
    **_same(
        _OUT, "output", "o", "outdir", "out_dir", "save_dir", "log_dir", "logdir", "run_dir", "work_dir", "workdir"
    ),
    **_same(_OUT, "exp_dir", "checkpoint_dir", "ckpt_dir", "output_path", "logging_dir", "save_path", "output_folder"),
    **_same(_SAVE, "save_steps", "save_interval", "checkpoint_every", "save_every_n_steps", "checkpoint_interval"),
    **_same(_SAVE, "ckpt_every", "checkpoint_freq", "save_frequency", "checkpointing_steps"),
    **_same(Ours(("keep",), otherwise="it is for training"), "save_total_limit", "keep_last", "max_checkpoints"),
    **_same(_LOG, "logging_steps", "log_interval", "log_every_n_steps", "print_freq", "log_frequency"),
    **_same(_VALIDATE, "eval_freq", "eval_interval", "val_interval", "val_freq", "validate_every", "val_every"),
    **_same(_VALIDATE, "val_check_interval", "validation_steps", "eval_frequency", "evaluate_every"),
    **_same(Ours(("held_out",), otherwise="it is for training"), "val_split", "validation_split", "val_ratio"),
    **_same(Ours(("held_out",), otherwise="it is for training"), "test_split", "eval_split", "val_fraction"),
    **_same(_WARM, "warmup", "lr_warmup_steps", "num_warmup_steps", "warmup_iters", "warm_up_steps"),
    "warmup_ratio": Absent("--warmup-steps = ratio x steps"),
    **_same(_CLIP, "grad_clip", "max_grad_norm", "gradient_clip_val", "clip_grad_norm", "grad_clip_norm", "clip_grad"),
    **_same(_CLIP, "gradient_clip", "gradient_clipping"),
    **_same(Ours(("weight_decay",), otherwise="it is for training"), "wd", "decay", "l2"),
    **_same(Ours(("decay_lr",), otherwise="it is for training"), "min_lr", "end_lr", "final_lr", "lr_end", "lr_min"),
    **_same(_PATIENCE, "early_stopping", "early_stop", "early_stopping_patience", "early_stop_patience"),
    **_same(Ours(("ema",), otherwise="it is for training"), "ema_decay", "ema_rate"),
    "use_ema": Ours(("ema",), lambda _: ["0.999"], otherwise="it is for training"),
    **_same(_WORKERS, "dataloader_num_workers", "n_workers", "nworkers", "j", "num_cpus", "threads", "num_proc"),
    **_same(_DEVICE, "gpu", "cuda", "accelerator", "gpu_id", "device_id"),
    **_same(_RUNS_HERE, "gpus", "num_gpus", "devices", "n_gpus", "num_nodes", "nodes", "nproc_per_node"),
    **_same(_RUNS_HERE, "ddp", "fsdp", "deepspeed", "local_rank", "distributed", "num_processes"),
    **dict.fromkeys(("use_amp", "amp", "mixed_precision", "precision", "bf16", "torch_dtype"), _mixed),
    **dict.fromkeys(("fp16", "half"), lambda value: _mixed("float16" if value.lower() != "false" else value)),
    **_same(_START, "model", "model_path", "model_name", "model_name_or_path", "checkpoint", "ckpt", "ckpt_path"),
    **_same(_START, "pretrained", "pretrained_path", "pretrained_model", "pretrained_model_name_or_path", "weights"),
    **_same(_START, "policy_path", "base_model", "base_model_path", "init_from", "load_from", "checkpoint_dir_path"),
    **_same(_START, "model_id", "pretrained_checkpoint", "resume_path", "load_checkpoint"),
    **_same(
        _DATA, "data", "d", "data_dir", "data_path", "dataset_path", "dataset_dir", "dataset_root", "root", "input"
    ),
    **_same(_DATA, "data_root", "dataset_name", "train_data", "train_dataset", "input_dir", "local_dir"),
    **dict.fromkeys(("repo_id", "dataset_repo_id", "dataset_id", "data_repo_id"), _dataset_id),
    **_same(Ours(("resume",), otherwise="it is for training"), "resume_from_checkpoint", "resume_training"),
    **_same(Ours(("lora",), otherwise="it is for training"), "lora_r", "lora_rank", "r", "rank"),
    **dict.fromkeys(("use_lora", "use_peft", "peft_method"), _lora),
    **_same(Ours(("lora_targets",), otherwise="it is for training"), "lora_target_modules", "target_modules"),
    "lora_dropout": Absent("adapters are trained without dropout"),
    **dict.fromkeys(("report_to", "logger", "use_wandb", "log_with", "tracker"), _tracked),
    **_same(_WANDB, "wandb_project", "wandb_entity", "wandb_name", "wandb_mode", "wandb_run_name", "project_name"),
    **_same(Unneeded("the folder's name (--out) is the run's"), "exp_name", "name", "run_name", "experiment"),
    **_same(Unneeded("the folder's name (--out) is the run's"), "experiment_name", "tag", "exp", "job", "run_id"),
    **_same(_TEXT, "task", "single_task", "prompt", "language", "language_instruction", "text", "task_description"),
    **dict.fromkeys(
        ("torch_compile", "compile_model", "use_compile"), Ours(("compile",), otherwise="see smolpilot bench")
    ),
    **dict.fromkeys(("image_aug", "augmentation", "image_augmentation", "use_augmentation", "aug"), _augmented),
    **_same(Ours(("chunk_size",), otherwise="the policy's own"), "horizon", "action_chunk_size", "pred_horizon"),
    **_same(Ours(("chunk_size",), otherwise="the policy's own"), "action_chunk_length", "chunk_length", "action_chunk"),
    **_same(Ours(("n_action_steps", "execution_horizon")), "action_horizon", "n_actions", "exec_horizon"),
    **_same(Ours(("num_steps", "steps")), "num_inference_steps", "denoising_steps", "flow_steps", "n_denoising_steps"),
    **_same(Ours(("seed",), otherwise="nothing is drawn"), "random_seed", "rng_seed", "manual_seed"),
    **_same(Ours(("freeze_vision",), otherwise="it is for training"), "freeze_vision_encoder", "freeze_backbone"),
    **_same(Ours(("camera_map",), renamed_cameras), "cameras_map", "image_key_map", "camera_mapping"),
    **_same(Ours(("max_tokens",), otherwise="the policy's own length"), "tokenizer_max_length", "max_length"),
    **_same(Ours(("robot",), otherwise="the policy knows its robot"), "robot_type", "embodiment", "embodiment_tag"),
    **_same(Ours(("episodes",), listed), "episode", "episode_index", "episode_indices", "n_episodes", "num_episodes"),
    **_same(Unneeded("AdamW"), "optim", "optimizer_type"),
    **_same(_COSINE, "lr_scheduler", "lr_scheduler_type", "lr_schedule", "schedule"),
    **_same(_FIXED_ADAM, "beta1", "beta2", "adam_beta1", "adam_beta2", "adam_epsilon", "betas", "eps"),
    "momentum": _NOT_SMOLVLA,
    "dropout": _NOT_SMOLVLA,
    "gradient_checkpointing": Absent("for little memory: --micro-batch, --lora, --dtype bfloat16, --cache prefix"),
    **_same(Absent("weights are not quantized for training; --lora saves memory"), "load_in_4bit", "load_in_8bit"),
    **_same(_OVERWRITE, "overwrite", "overwrite_output_dir", "force", "f", "exist_ok", "overwrite_output"),
    **_same(_HUB, "hub_model_id", "hub_token", "hub_repo_id", "upload", "private", "tags", "license"),
    **_same(Unneeded("progress is shown by itself"), "verbose", "v", "progress", "progress_bar", "tqdm"),
    **_same(Unneeded("nothing is asked; SMOLPILOT_TRACEBACK=1 shows where an error came from"), "debug", "yes", "y"),
    "tolerance": Unneeded("time stamps are checked by `smolpilot dataset check`"),
    "video_backend": Unneeded("videos are decoded by PyAV"),
    **_same(Absent("preflight and `smolpilot train --overfit` are the rehearsal"), "dry_run", "sanity_check"),
}

_VIEWER = Unneeded("the page is a folder that opens in a browser")
_EDIT: Table = {
    "dataset": _DATA,
    "new_repo_id": Ours(("dst",)),
    "new_root": Ours(("dst",)),
    "operation.type": Absent(
        "each operation is a verb: smolpilot dataset exclude, split, merge, tasks, stats, convert"
    ),
    "operation": Absent("each operation is a verb: smolpilot dataset exclude, split, merge, tasks, stats, convert"),
    "operation.episode_indices": Ours(("episodes",), listed),
    "operation.splits": Ours(("parts",)),
    "operation.feature_names": Ours(("without",), otherwise="features are left out by --without of convert"),
    "operation.roots": Ours(("src",)),
    "operation.repo_ids": Ours(("src",)),
    "operation.new_task": Ours(("set",), otherwise="smolpilot dataset tasks"),
    "operation.episode_tasks": Ours(("set",), otherwise="smolpilot dataset tasks"),
    "operation.task_replacements": Ours(("rename",), otherwise="smolpilot dataset tasks"),
    "operation.num_workers": Ours(("jobs",), otherwise="it tunes itself"),
    "operation.overwrite": _OVERWRITE,
    "operation.*": Absent("videos are copied as they are; see smolpilot dataset convert"),
    "mode": _VIEWER,
    "save": _VIEWER,
    "host": _VIEWER,
    "web_port": _VIEWER,
    "ws_port": _VIEWER,
    "grpc_port": _VIEWER,
    "port": _VIEWER,
    "display_compressed_images": _VIEWER,
    "display_mode": _VIEWER,
    "no_autoplay": _VIEWER,
    "autoplay": _VIEWER,
    "batch_size": Unneeded("the whole dataset is read"),
}
_SETTINGS = Absent("settings of an environment: --env-settings NAME=VALUE")
_PALETTE = Ours(("env_settings",), lambda value: [f"colors={','.join(value.split()) or 'red,blue'}"])
_CLOSED_LOOP: Table = {
    "env": Ours(("env",)),
    "env.type": Ours(("env",)),
    "eval.n_episodes": Ours(("episodes",)),
    "n_episodes": Ours(("episodes",)),
    "num_episodes": Ours(("episodes",)),
    "eval.batch_size": Unneeded("up to 50 episodes run side by side"),
    "eval.use_async_envs": Unneeded("up to 50 episodes run side by side"),
    "env.*": _SETTINGS,
    # Of earlier versions.
    "colors": _PALETTE,
    "colours": _PALETTE,
    "robot": _ROBOT,
    "robot.*": _ROBOT,
}
_RECORDED: Table = {
    "dataset.repo_id": Ours(("out",)),
    "dataset.root": Ours(("out",)),
    "repo_id": Ours(("out",)),
    "root": Ours(("out",)),
    "dataset.num_episodes": Ours(("episodes",)),
    "num_episodes": Ours(("episodes",)),
    "n_episodes": Ours(("episodes",)),
    "dataset.single_task": Unneeded("each episode's instruction names its block; --target keeps one color"),
    "single_task": Unneeded("each episode's instruction names its block; --target keeps one color"),
    "dataset.vcodec": Ours(("codec",)),
    "dataset.push_to_hub": _HUB,
    "dataset.*": Unneeded("the simulation knows its rate, cameras and length of episodes"),
    "policy": Absent("demonstrations come from the scripted expert; a policy runs in smolpilot rollout"),
    "policy.*": Absent("demonstrations come from the scripted expert; a policy runs in smolpilot rollout"),
    "resume": Absent("a dataset is written at once; smolpilot dataset merge joins two"),
}
_SCORED: Table = {
    "eval.batch_size": Ours(("batch_size",)),
    "eval.n_episodes": Absent("recorded episodes are scored: --episodes chooses; closed loop: smolpilot rollout"),
    "num_steps": Ours(("num_steps",)),
    "n_episodes": Ours(("max_frames",)),
}
_MEASURED: Table = {"policy.num_steps": Ours(("steps",)), "num_steps": Ours(("steps",))}
_OF_VERB: dict[str, Table] = {
    "eval": _SCORED,
    "rollout": _CLOSED_LOOP,
    "record": _RECORDED,
    "bench": _MEASURED,
    "robots": {"robot": Ours(("name",)), "robot.type": Ours(("name",)), "robot_type": Ours(("name",))},
    **dict.fromkeys(
        (
            "info",
            "convert",
            "compare",
            "check",
            "repair",
            "stats",
            "tasks",
            "split",
            "merge",
            "exclude",
            "view",
            "rename",
        ),
        _EDIT,
    ),
}
