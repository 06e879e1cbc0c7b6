"""Products of a few rows with large weights, most of what a decode step is, as a CPU does them best.

torch's own product is the fall-back. The two others:

* `OneDnnLinear` is for float32, and for bfloat16 on a CPU with instructions for it. Weights that nobody else
  uses are in oneDNN's blocked layout, which few rows read once and in order. The operators are those that
  `torch.compile` puts in the place of `nn.Linear` on a CPU
  (https://github.com/pytorch/pytorch/blob/main/torch/_inductor/fx_passes/mkldnn_fusion.py, 2026-11).
* `WidenedLinear` is for bfloat16 on a CPU without instructions for it, where torch computes every row by
  itself. The rows are widened to float32 and oneDNN multiplies them with the weights as they are, so that
  the result is rounded once, as hardware with bfloat16 instructions does it.

torch's own product of float32 is MKL's, which is slower for few rows (AVX2, two cores, 8 rows, torch 2.15,
2026-11: 1.3 to 2 times in a decode step), and as fast for a prompt.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import nn

_TYPICAL_ROWS = 8  # what the layout is chosen for; any other number works
# oneDNN refuses float32 rows with bfloat16 weights unless the outputs are a multiple of 8 (AVX2, torch 2.15,
# found by trying); 16 is a vector of AVX-512.
_OUTPUTS_STEP = 16
_ROWS_OF_TORCH = 2  # so few are fastest with torch's own product of bfloat16


def best_linear(weight: torch.Tensor, *, shared: bool = False) -> nn.Module:
    """A module that computes `x @ weight.T` for `x` [rows, in] and `weight` [out, in].

    A `shared` weight is also used elsewhere and must stay as it is. Others may be laid out anew, so drop
    every reference to them: then there is one copy.
    """
    if weight.device.type != "cpu":
        return _PlainLinear(weight)
    if weight.dtype == torch.bfloat16 and lacks_bfloat16():
        return WidenedLinear(weight) if _has_mixed_product() else _PlainLinear(weight)
    if weight.dtype in (torch.float32, torch.bfloat16) and _has_onednn():
        return OneDnnLinear(weight if shared else _packed(weight))
    return _PlainLinear(weight)


def lacks_bfloat16() -> bool:
    """Whether this is an x86 CPU without instructions for bfloat16, as far as torch uses them."""
    return _has_onednn() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _has_onednn() -> bool:
    # torch has these operators on other processors too, but there nobody has measured them.
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")


class _PlainLinear(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


class OneDnnLinear(nn.Module):
    """Weights as they are, or `_packed`."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `best_linear`."""
        return _product(x, self.weight)


def _packed(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)


def _product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


@cache
def _has_mixed_product() -> bool:
    """Whether oneDNN multiplies float32 rows with bfloat16 weights on this CPU."""
    rows, weight = torch.zeros(_TYPICAL_ROWS, _OUTPUTS_STEP), torch.zeros(_OUTPUTS_STEP, _OUTPUTS_STEP)
    try:
        _product(rows, weight.bfloat16())
    except RuntimeError:  # "could not create a primitive descriptor"
        return False
    return True


class WidenedLinear(nn.Module):
    """bfloat16 weights, multiplied with rows of float32."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self._even = len(weight) - len(weight) % _OUTPUTS_STEP

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `best_linear`."""
        if len(x) <= _ROWS_OF_TORCH:
            return F.linear(x, self.weight)
        wide = x.float()
        most = _product(wide, self.weight[: self._even])
        if self._even == len(self.weight):
            return most.to(x.dtype)
        rest = F.linear(wide, self.weight[self._even :].float())
        return torch.cat([most, rest], dim=-1).to(x.dtype)
