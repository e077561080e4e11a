"""ZeRO through DeepSpeed (Rajbhandari et al. 2020, arXiv 1910.02054, section 5): what the processes do not keep twice.

Stage 1 slices the optimizer's moments, stage 2 the gradients too, stage 3 the weights as well. The optimizer is torch's
AdamW and the checkpoints are ours, so a run can change its engine; DeepSpeed's own, which are pickled, are not used.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from biollm.errors import require
from biollm.training.engines import MOMENTS, Engine, trained, whole_shape
from biollm.training.options import TrainOptions
from biollm.training.placement import Placement
from biollm.training.world import World

_SHM: Final = "deepspeed_shm_comm"
"""An operation that DeepSpeed compiles when first used on the CPU. A process killed meanwhile leaves a lock behind that
every later one waits for; gloo does its work."""
MAX_BUCKET: Final = 500_000_000
"""Numbers sent at a time, at most (DeepSpeed's own figure). It allocates as many, however small the model."""


class ZeroRedundancy(Engine):
    """DeepSpeed's engine around a model whose weights are already those to start from.

    ``rows``: of one forward pass of one process.

    Raises MissingExtra where deepspeed is not installed.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        options: TrainOptions,
        *,
        rows: int,
        placement: Placement,
        world: World,
    ) -> None:
        super().__init__(model, optimizer, world)
        self._stage = options.zero_stage
        numel = sum(parameter.numel() for parameter in model.parameters())
        config = _config(options, rows, placement, bucket=min(numel, MAX_BUCKET))
        self._engine, *_ = _deepspeed(placement).initialize(model=model, optimizer=optimizer, config=config)
        self.forward = self._engine

    def state(self) -> dict[str, Tensor]:
        """The whole model's tensors by name, on the first process; empty on the others. All must call it."""
        whole = {}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            with self._gathered(tensor):
                if self.world.first:
                    whole[name] = tensor.detach().to("cpu", copy=self._stage == 3)
        return whole

    def moments(self) -> dict[str, Tensor]:
        """AdamW's ``NAME.MOMENT`` of each trained parameter, whole, on the first process. All must call it."""
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link()
        (steps, *_) = [state["step"] for state in self._inner.state.values()]
        whole = {}
        for name, parameter in trained(self.model).items():
            for moment in MOMENTS[1:]:
                full = safe_get_full_optimizer_state(parameter, moment)
                if self.world.first:
                    whole[f"{name}.{moment}"] = full.detach().cpu().reshape(whole_shape(parameter))
            if self.world.first:
                whole[f"{name}.step"] = torch.as_tensor(steps).detach().cpu().clone()
        return whole

    def take_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from what `moments` gave: of each tensor the slice of this process."""
        steps = next(tensor for name, tensor in moments.items() if name.endswith(".step"))
        for flat in self._flat:
            self._inner.state[flat] = {
                "step": steps.clone(),
                **{moment: torch.zeros_like(flat) for moment in MOMENTS[1:]},
            }
        if self._stage < 3:
            from deepspeed.utils import safe_set_full_optimizer_state

            self._link()
            for name, parameter in trained(self.model).items():
                for moment in MOMENTS[1:]:
                    safe_set_full_optimizer_state(parameter, moments[f"{name}.{moment}"], moment)
            return
        from deepspeed.utils import safe_get_local_optimizer_state, safe_set_local_optimizer_state

        for name, parameter in trained(self.model).items():
            for moment in MOMENTS[1:]:
                part = torch.zeros_like(safe_get_local_optimizer_state(parameter, moment))
                mine = moments[f"{name}.{moment}"].flatten()[self.world.rank * part.numel() :][: part.numel()]
                part.flatten()[: mine.numel()] = mine  # the last slice may be padded
                safe_set_local_optimizer_state(parameter, part, moment)

    def update(self, *, lr: float, clip_norm: float) -> Tensor:
        """One optimizer step by the gradients there are, which it takes; their norm before clipping, a scalar."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm())

    def _backward(self, loss: Tensor, last: bool) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)  # the loss is of the whole batch already
        if not last:
            self._engine.step()  # counts the passes; the last one's is in `update`

    def _link(self) -> None:
        """Has each parameter of stages 1 and 2 know its part of the flat moments.

        DeepSpeed does it once, when the first of the optimizer's groups has moments and the others have none yet.
        """
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        if self._stage < 3:
            for group, flat in zip(self._zero.bit16_groups, self._flat, strict=True):
                lazy_init_hp_params_optimizer_state(group, flat, self._inner.state)

    @property
    def _zero(self) -> Any:
        return self._engine.optimizer

    @property
    def _inner(self) -> Any:
        return self._zero.optimizer

    @property
    def _flat(self) -> list[Tensor]:
        flat: list[Tensor] = (
            self._zero.single_partition_of_fp32_groups if self._stage < 3 else self._zero.fp32_partitioned_groups_flat
        )
        return flat

    @contextmanager
    def _gathered(self, tensor: Tensor) -> Iterator[None]:
        if self._stage < 3 or not hasattr(tensor, "ds_id"):
            yield
            return
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor]):
            yield


def _config(options: TrainOptions, rows: int, placement: Placement, *, bucket: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": options.accumulation,
        "gradient_clipping": options.clip_norm,
        "zero_optimization": {
            "stage": options.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
        # torch's AdamW is what all engines use, so that their runs are the same.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }
    if placement.autocast is not None:
        # Nothing is listed as safe to be sent in the low precision: the sums are made in float32.
        config["torch_autocast"] = {
            "enabled": True,
            "dtype": str(placement.autocast).removeprefix("torch."),
            "lower_precision_safe_modules": [],
        }
    return config


def _deepspeed(placement: Placement) -> Any:
    """The package, made ready for the device of ``placement``."""
    _private_extensions()
    if placement.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    deepspeed = require("deepspeed", extra="deepspeed")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    ops: Any = require("deepspeed.ops", extra="deepspeed")
    ops.__compatible_ops__[_SHM] = False
    deepspeed.init_distributed(dist_backend="gloo" if placement.device.type == "cpu" else "nccl", verbose=False)
    return deepspeed


def _private_extensions() -> None:
    """Has what DeepSpeed may compile go into a folder of this process alone, unless the environment names one."""
    if "TORCH_EXTENSIONS_DIR" not in os.environ:
        os.environ["TORCH_EXTENSIONS_DIR"] = folder = tempfile.mkdtemp(prefix="biollm-extensions-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
