"""Engines: how a model is trained by one process or by several, each with a part of every batch.

| engine | every process holds |
|---|---|
| ``ddp`` | the whole model; gradients are averaged (`torch.nn.parallel.DistributedDataParallel`) |
| ``fsdp`` | a slice of each tensor; weights come together block by block (FSDP2, `fully_shard`) |
| ``deepspeed`` | ZeRO stage 1, 2 or 3 (`training.zero`) |

One process by itself is an `Engine` without any of these. Whatever the engine, the loss of a step is the sum over its
loss tokens divided by their number in the batch of *all* processes, however unequal their shares: every engine averages
the gradients of the processes, so each scales its loss by their number. And whatever the engine, `state` and `moments`
are those of the whole model under its own names: a run goes on with another number of processes, or another engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn

from biollm.training.batches import IGNORED, Batch
from biollm.training.optimizer import clip_gradients, make_optimizer
from biollm.training.options import TrainOptions
from biollm.training.placement import Placement
from biollm.training.world import World

MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter, in torch's names."""


def summed_loss(model: Callable[..., Any], batch: Batch, placement: Placement) -> Tensor:
    """The sum of the cross entropies of a batch's loss tokens, nats, a scalar; float32 at least."""

    def tensor(array: object) -> Tensor:
        host = torch.from_numpy(array)
        return host.pin_memory().to("cuda", non_blocking=True) if placement.device.type == "cuda" else host

    with placement.precision():
        logits = model(
            tensor(batch.tokens), positions=tensor(batch.positions), document_ids=tensor(batch.document_ids)
        )  # (rows, seq, vocab)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), tensor(batch.targets).flatten(), ignore_index=IGNORED, reduction="sum"
    )


class Engine:
    """A model and its optimizer in one process; the base of those of several.

    ``model``: with its own parameters' names. ``forward``: what is called for logits. ``optimizer``: whose rate is set.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, world: World | None = None) -> None:
        self.model = model
        self.forward: Callable[..., Any] = model
        self.optimizer = optimizer
        self.world = World() if world is None else world

    def accumulate(self, batch: Batch, *, accumulation: int, count: float, placement: Placement) -> Tensor:
        """Add the gradients of this process's ``batch``, in ``accumulation`` forward passes.

        ``count``: loss tokens of the batch of all processes. Gives this process's share of the mean loss, a float64
        scalar on the device.
        """
        total = torch.zeros((), dtype=torch.float64, device=placement.device)
        parts = batch.split(accumulation)
        size = self.world.size
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with self._synchronizing(last):
                loss = summed_loss(self.forward, part, placement) / (max(1.0, count) / size)
                self._backward(loss, last)
            total += loss.detach() / size
        return total

    def update(self, *, lr: float, clip_norm: float) -> Tensor:
        """One optimizer step by the gradients there are, which it takes; their norm before clipping, a scalar."""
        norm = self._clip(clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """The whole model's tensors by name, on the first process; empty on the others. All must call it."""
        return self._whole(self.model.state_dict())

    def moments(self) -> dict[str, Tensor]:
        """AdamW's ``NAME.MOMENT`` of each trained parameter, whole, on the first process. All must call it."""
        return self._whole(
            {
                f"{name}.{moment}": self.optimizer.state[parameter][moment]
                for name, parameter in trained(self.model).items()
                for moment in MOMENTS
            }
        )

    def take_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from what `moments` gave; each process is given all of them."""
        for name, parameter in trained(self.model).items():
            # Copied: what was read lies in the mapped file, at any address; the optimizer's own tensors are aligned.
            self.optimizer.state[parameter] = {
                moment: moments[f"{name}.{moment}"].to(parameter.device, copy=True) for moment in MOMENTS
            }

    def _synchronizing(self, last: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward pass: whether gradients are exchanged after it."""
        return nullcontext()

    def _backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def _clip(self, limit: float) -> Tensor:
        return clip_gradients(self.model, limit)

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in tensors.items()} if self.world.first else {}


class Replicated(Engine):
    """The whole model on every process, their gradients averaged while they arise."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> None:
        super().__init__(model, optimizer, world)
        # The one buffer there is, of rotary frequencies, is the same everywhere. Before torch 2.15 by another name.
        wrap: Any = nn.parallel.DistributedDataParallel
        known = inspect.signature(wrap.__init__).parameters
        named = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        self._parallel = wrap(model, **{named: False})
        self.forward = self._parallel

    def _synchronizing(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self._parallel.no_sync()


class Sharded(Engine):
    """A slice of every tensor on each process (Zhao et al. 2023, arXiv 2304.11277, as FSDP2 has it)."""

    def __init__(self, model: nn.Module, make: Callable[[nn.Module], torch.optim.Optimizer], world: World) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        kind = next(model.parameters()).device.type
        mesh = init_device_mesh(kind, (world.size,))
        decoder: Any = model.model
        for block in decoder.layers:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        super().__init__(model, make(model), world)

    def take_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from what `moments` gave: of each tensor the slice of this process."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        for name, parameter in trained(self.model).items():
            state = {moment: moments[f"{name}.{moment}"].to(parameter.device, copy=True) for moment in MOMENTS}
            if isinstance(parameter, DTensor):
                mesh, placements = parameter.device_mesh, parameter.placements
                for moment in MOMENTS[1:]:
                    # Every process has read the same, so nothing need be sent.
                    state[moment] = distribute_tensor(state[moment], mesh, placements, src_data_rank=None)
            self.optimizer.state[parameter] = state

    def _synchronizing(self, last: bool) -> AbstractContextManager[Any]:
        model: Any = self.model
        model.set_requires_gradient_sync(last)
        return nullcontext()

    def _clip(self, limit: float) -> Tensor:
        return _whole_tensor(super()._clip(limit))

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        whole = {}
        for name, tensor in tensors.items():  # one at a time: no process but the first ever holds two
            full = _whole_tensor(tensor.detach())
            if self.world.first:
                whole[name] = full.cpu()
        return whole


def make_engine(
    model: nn.Module, options: TrainOptions, *, lr: float, rows: int, placement: Placement, world: World
) -> Engine:
    """The engine that ``options`` ask for, of ``model`` as it is now; ``rows``: of one forward pass of one process."""

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        betas = (options.beta1, options.beta2)
        return make_optimizer(model, lr=lr, weight_decay=options.weight_decay, betas=betas, eps=options.eps)

    if options.engine == "deepspeed":
        from biollm.training.zero import ZeroRedundancy

        return ZeroRedundancy(model, optimizer(model), options, rows=rows, placement=placement, world=world)
    if options.engine == "fsdp":
        return Sharded(model, optimizer, world)
    return Replicated(model, optimizer(model), world) if world.size > 1 else Engine(model, optimizer(model), world)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, of which this process may hold a slice."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)  # DeepSpeed's stage 3 empties what it slices
    return shape


def _whole_tensor(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
