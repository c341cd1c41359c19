"""AdamW and its learning rate: a linear warm-up, then a cosine to 0, for each part of a network."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from s2dc_core.training.recipe import Recipe


def optimiser_of(
    network: nn.Module, config: Recipe, slower: nn.Module | None = None, rate: float | int = 1.0
) -> tuple[AdamW, list[float]]:
    """The optimiser of a network's weights, and for each of its groups the share of the recipe's learning rate.

    Args:
        slower: a part of it whose learning rate is `rate` times the recipe's; with 0 it stays as it is.
    """
    shares = [1.0]
    inside = set(slower.parameters()) if slower and rate != 1 else set()
    groups = [{"params": [weight for weight in network.parameters() if weight.requires_grad and weight not in inside]}]
    if inside:
        shares.append(float(rate))
        groups.append({"params": [weight for weight in network.parameters() if weight in inside]})
        for weight in inside if rate == 0 else ():
            weight.requires_grad_(False)
    on_gpu = all(weight.device.type == "cuda" for group in groups for weight in group["params"])
    how = {"fused": True} if on_gpu else {}
    optimiser = AdamW(groups, config.learning_rate, weight_decay=config.weight_decay, **how)
    for group, share in zip(optimiser.param_groups, shares, strict=True):
        group["lr"] = config.learning_rate * share
    return optimiser, shares


def schedule_of(optimiser: AdamW, config: Recipe) -> LambdaLR:
    """What sets the learning rates at each step."""
    return LambdaLR(optimiser, lambda step: warmup_then_cosine(step, config))


def set_rates(optimiser: AdamW, schedule: LambdaLR, config: Recipe, shares: list[float], step: int) -> None:
    """Bring the learning rates to the recipe's at a step, whatever they were so far."""
    schedule.base_lrs = [config.learning_rate * share for share in shares]
    factor = warmup_then_cosine(step, config)
    schedule._last_lr = [rate * factor for rate in schedule.base_lrs]
    for group, rate in zip(optimiser.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


def warmup_then_cosine(step: int, config: Recipe) -> float:
    """The share of the learning rate at a step, from 0 to 1."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))
