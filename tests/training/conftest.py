"""Tests of training compute on one thread, unless a run asks for more."""

import torch

torch.set_num_threads(1)
