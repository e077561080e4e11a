"""Work of `align` that survives a kill, in `OUT/.partial/`: the reward model once it is fitted, and the state of ppo.

The state is kept at each look at the loss on harmless text, as `train` keeps checkpoints: what goes on from there gives
the bytes of an uncut run. `dpo` keeps nothing on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from biollm import _native
from biollm.alignment.measuring import Guard
from biollm.alignment.options import ALGORITHM_VERSION, AlignOptions
from biollm.alignment.ppo import PPO, Iteration
from biollm.alignment.reward import RewardFit, RewardModel
from biollm.alignment.sources import Material
from biollm.manifest import InputRecord
from biollm.partial import Partial, work_key
from biollm.training.placement import Placement, arithmetic
from biollm.training.sources import software

REWARD: Final = "reward"
POLICY: Final = "ppo"


def key_of(options: AlignOptions, start: Sequence[InputRecord], material: Material, placement: Placement) -> str | None:
    """The key of a run's unfinished work: of all that its weights depend on, threads and processor too; None for dpo.

    start: what the checkpoint is known by. material: known by its content.
    """
    if options.method == "dpo":
        return None
    rows = [ids for pair in (*material.train, *material.held_out) for ids in (pair.prompt, pair.chosen, pair.rejected)]
    rows += [ids for text in material.benign for ids in (text.context, text.target)]
    content = _native.hash_bytes(np.array([value for ids in rows for value in (len(ids), *ids)], np.int64).tobytes())
    # What `torch_threads` will set, which `arithmetic` cannot see yet.
    machine = {**arithmetic(placement), "threads": options.threads}
    known: list[list[Any]] = [[record.xxh3_128 for record in start], [content], [*software(placement), machine]]
    return work_key("align", ALGORITHM_VERSION, options.matched(), known)


def keep_reward(partial: Partial, model: RewardModel, fit: RewardFit) -> None:
    """Keeps a reward model that is fitted and calibrated. Raises FileError where the system refused."""
    _keep(partial, REWARD, model.state_dict(), fit=asdict(fit))


def kept_reward(partial: Partial, model: RewardModel) -> RewardFit | None:
    """Gives a new model what was kept, and tells of its fit; None where nothing was."""
    if (found := _kept(partial, REWARD)) is None:
        return None
    tensors, facts = found
    model.load_state_dict(tensors)
    fit = facts["fit"]
    return RewardFit(tuple(fit["losses"]), fit["accuracy"], fit["held_out"])


def keep_policy(partial: Partial, ppo: PPO, guard: Guard, seen: list[Iteration]) -> None:
    """Keeps all that changes from one iteration to the next. Raises FileError where the system refused."""
    tensors = {f"policy.{name}": tensor for name, tensor in ppo.policy.state_dict().items()}
    tensors |= {f"head.{name}": tensor for name, tensor in ppo.head.state_dict().items()}
    for index, moments in ppo.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
    _keep(
        partial,
        POLICY,
        tensors,
        coefficient=ppo.controller.value,
        random=ppo.random.getstate(),
        losses=guard.losses,
        seen=[asdict(iteration) for iteration in seen],
    )


def kept_policy(partial: Partial, ppo: PPO, guard: Guard) -> list[Iteration]:
    """Puts a new run where the kept one was, and gives the iterations it had seen; none where nothing was kept."""
    if (found := _kept(partial, POLICY)) is None:
        return []
    tensors, facts = found
    for part, module in (("policy", ppo.policy), ("head", ppo.head)):
        module.load_state_dict({name: tensors[f"{part}.{name}"] for name in module.state_dict()})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    ppo.optimizer.load_state_dict({**ppo.optimizer.state_dict(), "state": moments})
    ppo.controller.value = facts["coefficient"]
    version, internal, gauss = facts["random"]
    ppo.random.setstate((version, tuple(internal), gauss))
    guard.take_up([(step, loss) for step, loss in facts["losses"]])
    return [Iteration(**iteration) for iteration in facts["seen"]]


def _keep(partial: Partial, name: str, tensors: Mapping[str, Tensor], **facts: Any) -> None:
    arrays = {key: tensor.detach().cpu().contiguous().numpy() for key, tensor in tensors.items()}
    shapes = [[key, array.dtype.str, list(array.shape)] for key, array in arrays.items()]
    partial.keep(name, [array.reshape(-1) for array in arrays.values()], tensors=shapes, **facts)


def _kept(partial: Partial, name: str) -> tuple[dict[str, Tensor], Mapping[str, Any]] | None:
    if (piece := partial.kept(name)) is None:
        return None
    tensors = {
        key: torch.from_numpy(np.frombuffer(part, np.dtype(kind)).reshape(shape).copy())
        for part, (key, kind, shape) in zip(piece.parts, piece.facts["tensors"], strict=True)
    }
    return tensors, piece.facts
