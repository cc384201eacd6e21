"""What each rank does in tests/test_parallel.py; by itself, for every process that is started imports it."""

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

import data
import models
from data import mnist, text
from experiments.training import parallel
from models import cnn, language_model, mlp
from models.norms import feedforward

torch.set_num_threads(1)
BATCH = 8
IMAGES = mnist.Config(source="synthetic", crop=20)
TEXT = text.Config(corpus="synthetic", sequence_length=5, validation_size=600, test_size=600)
MODELS: dict[str, tuple[Any, Any]] = {
    "mlp": (mlp.Config(hidden_sizes=[16, 12]), IMAGES),
    "cnn": (cnn.Config(depth=2, width=4), IMAGES),
    "lstm": (language_model.Config(hidden_size=8, statistics="pooled"), TEXT),
}


def cases(name: str) -> list[tuple[Tensor, Tensor]]:
    """Two mini-batches for a model."""
    source = data.load(MODELS[name][1], batch_size=BATCH, seed=0)
    batches = (source.train_batch(step) for step in range(2))
    return [(x.double() if x.is_floating_point() else x, y) for x, y in batches]


def learn(model: Any, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The loss and the gradients of the second batch, carried on from the first, and all buffers after both."""
    state, loss = None, torch.zeros(())
    for batch in batches:
        model.zero_grad()
        loss, state = model.loss(batch, state)
        loss.backward()
    gradients = [parameter.grad.numpy() for parameter in model.parameters()]
    return {"loss": loss.item(), "gradients": gradients, "buffers": [buffer.numpy() for buffer in model.buffers()]}


def build(name: str, norm: str, **options: Any) -> Any:
    config, kind = MODELS[name]
    return models.build(replace(config, **options), norm, data.load(kind, batch_size=BATCH, seed=0).spec, 0).double()


def of_all_ranks(wanted: list[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for name, norm in wanted:
        rows = parallel.rows(BATCH)
        shares = [(x[rows], y[rows]) for x, y in cases(name)]
        found[name, norm] = learn(parallel.SharedModel(build(name, norm)), shares)
    return found


def of_large_means() -> list[np.ndarray]:
    """Outputs and gradients in float32 of values whose squares leave no digit to a variance by E[a^2] - E[a]^2."""
    torch.manual_seed(0)
    a = (torch.randn(BATCH, 6) + 1e4).requires_grad_()
    rows = parallel.rows(BATCH) if dist.is_initialized() else slice(None)
    out = feedforward("sync_batch", 6)(a[rows])
    (slope,) = torch.autograd.grad((out * torch.linspace(-1, 2, 6 * BATCH).view(BATCH, 6)[rows]).sum(), a)
    return [out.detach().numpy(), slope[rows].numpy()]


def fail(how: str) -> None:
    for turn in range(10):
        dist.all_reduce(torch.ones(3))
        if turn == 5 and dist.get_rank() == 2:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("no\nmore")
