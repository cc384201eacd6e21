"""What is drawn comes from the density that the net was trained for."""

import numpy as np
import torch

from models.stroke_model import LARGEST_RHO, negative_log_density
from scripts.drawn_strokes import points, sample

CASES = 40_000


def parameters(*gaussians: tuple[float, float, float, float, float, float], end: float) -> torch.Tensor:
    """The same for every case: of each Gaussian weight, means, standard deviations and correlation."""
    weight, x, y, sx, sy, rho = torch.tensor(gaussians, dtype=torch.float64).unbind(1)
    parts = [weight.log(), x, y, sx.log(), sy.log(), torch.atanh(rho / LARGEST_RHO)]
    logit = torch.tensor([end], dtype=torch.float64).logit()
    return torch.cat([logit, *parts]).expand(CASES, -1)


def test_samples_have_the_moments_of_their_density() -> None:
    drawn = sample(parameters((1.0, 0.5, -1.0, 2.0, 0.5, 0.6), end=0.3), torch.Generator().manual_seed(1)).numpy()
    assert np.allclose(drawn.mean(0), [0.5, -1.0, 0.3], atol=0.04)
    assert np.allclose(drawn[:, :2].std(0), [2.0, 0.5], rtol=0.02)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] - 0.6) < 0.02


def test_samples_cost_the_entropy_of_their_density() -> None:
    density = parameters((0.25, -3.0, 0.0, 0.1, 0.2, 0.0), (0.75, 3.0, 1.0, 0.2, 0.1, 0.0), end=0.5)
    drawn = sample(density, torch.Generator().manual_seed(1))
    assert abs(float((drawn[:, 0] < 0).double().mean()) - 0.25) < 0.02
    apart = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)  # components that do not overlap, and a coin for the end
    entropy = 1 + np.log(2 * np.pi) + np.log(0.1 * 0.2) + apart + np.log(2)
    assert abs(float(negative_log_density(density, drawn).mean()) - entropy) < 0.03


def test_the_pen_is_up_on_the_way_to_the_next_stroke() -> None:
    steps = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 2, 0], [1, 0, 0]])
    drawn = points(steps).reshape(4, 2, 2)
    assert np.isnan(drawn[2, 0]).all() and not np.isnan(drawn[[0, 1, 3]]).any()
    assert drawn[:, 1].tolist() == [[1, 0], [2, 0], [2, 2], [3, 2]]
