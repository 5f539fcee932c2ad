"""Muon for many small matrices: all of one shape are orthogonalised in one batched product.

``torch.optim.Muon`` walks over the matrices one by one; with twenty matrices of 64 columns the
calls cost more than the arithmetic, a quarter of the whole training time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Newton–Schulz coefficients of Jordan et al. 2024, the same as torch.optim.Muon's.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


class Muon:
    """Momentum, orthogonalised by Newton–Schulz, with the size of an AdamW update.

    Args:
        parameters: matrices, shape (rows, columns) each.
        momentum: Nesterov momentum.
        weight_decay: decoupled, times the rate.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        shapes: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for parameter in parameters:
            shapes.setdefault(tuple(parameter.shape), []).append(parameter)
        self.groups = list(shapes.values())
        self.buffers: list[torch.Tensor | None] = [None] * len(self.groups)

    def step(self, *, lr: float) -> None:
        """Update every matrix from its gradient."""
        import torch

        with torch.no_grad():
            for i, group in enumerate(self.groups):
                gradient = torch.stack([p.grad for p in group if p.grad is not None])
                buffer = self.buffers[i]
                if buffer is None:
                    buffer = self.buffers[i] = torch.zeros_like(gradient)
                buffer.lerp_(gradient, 1 - self.momentum)
                update = orthogonalise(gradient.lerp(buffer, self.momentum))
                rows, columns = gradient.shape[1:]
                # Root mean square of an AdamW update is about 0.2 (Moonlight, arXiv:2502.16982).
                size = 0.2 * max(rows, columns) ** 0.5
                for parameter, change in zip(group, update, strict=True):
                    parameter.mul_(1 - lr * self.weight_decay).sub_(change, alpha=lr * size)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return the nearest half-orthogonal matrices, roughly (singular values in 0.7…1.2).

    Args:
        matrices: shape (N, rows, columns).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x
