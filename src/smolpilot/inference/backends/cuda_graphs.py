"""CUDA graphs: a chunk is one launch, its inputs and outputs stand in fixed places.

A network of 11,000 small kernels waits for its own launches. So the calls are recorded once per shape and replayed: one
graph for the whole chunk, and one each for vision, context and denoising, for calls that come apart (late state).
Instruction lengths are put into buckets where the network masks its padding (`exact`), and a bounded number of graphs
is kept, the least recently used one goes first. What a graph cannot hold (samples that show different cameras) is run
without one. The recorder is a parameter, so that everything but the recording itself is tested without a GPU.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .backend import Backend, Guidance

if TYPE_CHECKING:
    from smolpilot.smolvla.network.inputs import PolicyInputs

Replay = Callable[[], None]
# Records a function without arguments: its result, and what computes it anew in the same place. `alone`: the result is
# read before any other recording is replayed, so that memory may be shared with others of that kind.
Recorder = Callable[[Callable[[], Any], bool], tuple[Any, Replay]]

BUCKETS = (8, 16, 24, 32, 48)
MAX_GRAPHS = 12


class Network(Backend, Protocol):
    """A backend in torch whose calls can be recorded: `masked` says whether padded tokens are masked or left out."""

    device: torch.device
    masked: bool


@dataclass
class _Graph:
    """A recorded call: the tensors that it reads, its result, and what computes that anew."""

    inputs: dict[str, Tensor]
    output: Any
    replay: Replay


class Graphed:
    """A network of which each call is recorded once per shape and then replayed. Itself a backend."""

    def __init__(
        self,
        network: Network,
        *,
        recorder: Recorder | None = None,
        buckets: Sequence[int] = BUCKETS,
        max_graphs: int = MAX_GRAPHS,
    ) -> None:
        self.network = network
        self.name, self.precision, self.device = network.name, network.precision, network.device
        self._record = recorder or CudaRecorder(network.device)
        self._buckets = sorted(buckets)
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self.recorded = 0  # how many graphs were made, for reports and tests

    @property
    def memory_bytes(self) -> int:
        buffers = sum(t.numel() * t.element_size() for graph in self._graphs.values() for t in graph.inputs.values())
        return self.network.memory_bytes + buffers

    def close(self) -> None:
        self._graphs.clear()
        self.network.close()

    # -- the calls of a backend --------------------------------------------------------------------------------------

    def vision(self, images: Tensor) -> Tensor:
        key = ("vision", tuple(images.shape))
        return cast(Tensor, self._run(key, {"images": images}, lambda x: self.network.vision(x["images"])))

    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> Any:
        tokens, token_mask = self.fit(tokens, token_mask)
        if not self._uniform(image_masks, token_mask):
            return self.network.context(image_tokens, image_masks, tokens, token_mask)
        given = {"image_tokens": image_tokens, "tokens": tokens} | self._mask_input(token_mask)
        key = ("context", _cameras(image_masks), tuple(image_tokens.shape), tuple(tokens.shape))

        def call(x: dict[str, Tensor]) -> Any:
            return self.network.context(x["image_tokens"], image_masks, x["tokens"], x.get("token_mask", token_mask))

        return _Recorded(key, self._run(key, given, call, hand_out=True))

    def denoise(self, context: Any, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        if not isinstance(context, _Recorded):
            return self.network.denoise(context, state, noise, steps, guidance)
        # The context stands where its graph writes it, so the denoising is recorded on top of that very graph.
        key = ("denoise", context.key, tuple(noise.shape), steps, guidance is not None)
        given = {"state": state, "noise": noise} | _guidance_inputs(guidance)
        value = context.value

        def call(x: dict[str, Tensor]) -> Tensor:
            return self.network.denoise(value, x["state"], x["noise"], steps, _guided(x))

        return cast(Tensor, self._run(key, given, call))

    # -- a chunk in one launch ---------------------------------------------------------------------------------------

    def chunk(self, inputs: PolicyInputs, noise: Tensor, steps: int, guidance: Guidance | None = None) -> Tensor:
        """Vision, context and denoising at once, [B, H, A]."""
        image_masks = inputs.image_masks
        tokens, token_mask = self.fit(inputs.tokens, inputs.token_mask)
        if not self._uniform(image_masks, token_mask):
            fitted = dataclasses.replace(inputs, tokens=tokens, token_mask=token_mask)
            return run_stages(self.network, fitted, noise, steps, guidance)
        used = _cameras(image_masks)
        given = {"images": inputs.images[:, list(used)], "tokens": tokens, "state": inputs.state, "noise": noise}
        given |= self._mask_input(token_mask) | _guidance_inputs(guidance)
        shapes = (tuple(value.shape) for value in (inputs.images, tokens, noise))
        key = ("chunk", used, *shapes, steps, guidance is not None)

        def call(x: dict[str, Tensor]) -> Tensor:
            mask = x.get("token_mask", token_mask)
            image_tokens = place(self.network.vision(x["images"].flatten(0, 1)), image_masks)
            context = self.network.context(image_tokens, image_masks, x["tokens"], mask)
            return self.network.denoise(context, x["state"], x["noise"], steps, _guided(x))

        return cast(Tensor, self._run(key, given, call))

    def fit(self, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Instructions as a graph takes them: padded to a bucket where padding is masked, without it elsewhere."""
        longest = int(token_mask.sum(dim=1).max())
        if not self.network.masked:
            return tokens[:, :longest], token_mask[:, :longest]
        width = next((bucket for bucket in self._buckets if bucket >= longest), longest)
        missing = width - tokens.shape[1]
        if missing <= 0:
            return tokens[:, :width], token_mask[:, :width]
        return F.pad(tokens, (0, missing)), F.pad(token_mask, (0, missing))

    # -- recording ---------------------------------------------------------------------------------------------------

    def _uniform(self, image_masks: Tensor, token_mask: Tensor) -> bool:
        """Whether a graph can hold it: all samples show the same cameras, and padding is masked or not there."""
        same = bool((image_masks == image_masks[:1]).all())
        return same and (self.network.masked or bool(token_mask.all()))

    def _mask_input(self, token_mask: Tensor) -> dict[str, Tensor]:
        return {"token_mask": token_mask} if self.network.masked else {}

    def _run(
        self, key: Hashable, given: dict[str, Tensor], call: Callable[[dict[str, Tensor]], Any], hand_out: bool = False
    ) -> Any:
        """Copy the inputs into their places and replay; record first where the shape is new.

        hand_out: give back the output where it stands (it is overwritten by the next replay) instead of a copy.
        """
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._make(key, given, call, hand_out)
        else:
            self._graphs.move_to_end(key)
            for name, value in given.items():
                graph.inputs[name].copy_(value, non_blocking=True)
        graph.replay()
        return graph.output if hand_out else graph.output.clone()

    def _make(
        self, key: Hashable, given: dict[str, Tensor], call: Callable[[dict[str, Tensor]], Any], hand_out: bool
    ) -> _Graph:
        while len(self._graphs) >= self._max_graphs:
            self._drop_oldest()
        inputs = {name: value.to(self.device, copy=True) for name, value in given.items()}
        output, replay = self._record(lambda: call(inputs), not hand_out)
        graph = self._graphs[key] = _Graph(inputs, output, replay)
        self.recorded += 1
        return graph

    def _drop_oldest(self) -> None:
        """Forget the least recently used graph, and the denoisings that stand on a forgotten context."""
        oldest, _ = self._graphs.popitem(last=False)
        for key in [k for k in self._graphs if isinstance(k, tuple) and k[0] == "denoise" and k[1] == oldest]:
            del self._graphs[key]


@dataclass(frozen=True)
class _Recorded:
    """A context that stands in its graph's output."""

    key: Hashable
    value: Any


class CudaRecorder:
    """Records on a stream of its own, after a few calls that let libraries choose kernels and allocate."""

    WARM_UP = 3

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None

    def __call__(self, call: Callable[[], Any], alone: bool) -> tuple[Any, Replay]:
        stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UP):
                call()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        torch.cuda.synchronize(self.device)
        if alone and self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        pool = self._pool if alone else None
        # Other threads may use the GPU meanwhile: only what this one does is checked.
        with torch.cuda.device(self.device), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = call()
        return output, graph.replay


def run_backend(
    backend: Backend, inputs: PolicyInputs, noise: Tensor, steps: int, guidance: Guidance | None = None
) -> Tensor:
    """Normalized chunks [B, H, max_action_dim] of a batch, in one launch where the backend has that."""
    way = backend.chunk if isinstance(backend, Graphed) else partial(run_stages, backend)
    return way(inputs, noise, steps, guidance)


def run_stages(
    network: Backend, inputs: PolicyInputs, noise: Tensor, steps: int, guidance: Guidance | None = None
) -> Tensor:
    """A chunk by the three calls of any backend, for samples that may show different cameras."""
    masks = inputs.image_masks
    encoded = network.vision(inputs.images[:, masks.any(dim=0)].flatten(0, 1))
    context = network.context(place(encoded, masks), masks, inputs.tokens, inputs.token_mask)
    return network.denoise(context, inputs.state, noise, steps, guidance)


def place(encoded: Tensor, image_masks: Tensor) -> Tensor:
    """Image tokens [B*U, N, D] of the cameras that some sample shows, in their slots [B, C, N, D]."""
    batch, slots = image_masks.shape
    used = _cameras(image_masks)
    by_camera = encoded.reshape(batch, len(used), *encoded.shape[1:])
    if len(used) == slots:
        return by_camera
    placed = encoded.new_zeros(batch, slots, *encoded.shape[1:])
    for i, camera in enumerate(used):
        placed[:, camera] = by_camera[:, i]
    return placed


def _cameras(image_masks: Tensor) -> tuple[int, ...]:
    """The slots that some sample shows."""
    return tuple(camera for camera, seen in enumerate(image_masks.any(dim=0).tolist()) if seen)


def _guidance_inputs(guidance: Guidance | None) -> dict[str, Tensor]:
    return {} if guidance is None else dict(vars(guidance))


def _guided(x: dict[str, Tensor]) -> Guidance | None:
    return Guidance(x["target"], x["weights"], x["gains"]) if "target" in x else None
