"""Optimisers and learning-rate schedules."""

import math

import torch
from torch import nn

from raymat.training.config import FitConfig


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Give the optimiser of a configuration over the trainable parameters of a model."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return adam(parameters, lr=config.lr, weight_decay=config.weight_decay)


def clip_gradients(model: nn.Module, config: FitConfig) -> None:
    """Shrink gradients longer than `clip_norm`: all tensors as one vector, or each by itself."""
    if config.clip_norm is None:
        return
    groups = (
        [[p] for p in model.parameters()]
        if config.clip_per == "tensor"
        else [list(model.parameters())]
    )
    for group in groups:
        torch.nn.utils.clip_grad_norm_(group, config.clip_norm)


def learning_rate(config: FitConfig, epoch: int) -> float:
    """Give the learning rate of an epoch, counted from 1.

    "step" multiplies by `gamma` after each milestone; "cosine" falls from `lr` towards 0 over the
    planned `epochs` (Loshchilov & Hutter, ICLR 2017, without restarts).
    """
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(epoch > m for m in config.milestones)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / config.epochs))
    return config.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set one learning rate for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr
