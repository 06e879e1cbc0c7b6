"""Amounts of CPU and memory as the API server's own library writes them.

KubeRay 1.7 reads a new RayService, adds its finalizer and writes all of it back (`Reconcile` in
ray-operator/controllers/ray/rayservice_controller.go). An amount of any other form comes back changed, which
`pulumi refresh` takes for a change that somebody made. The form is the largest unit without a fraction
(`Quantity` in pkg/api/resource/quantity.go of k8s.io/apimachinery).
"""

from __future__ import annotations

_MILLIS = 1000
_STEP = 1024
_UNITS = ("Mi", "Gi", "Ti")


def size(cpus: float, memory_mib: float) -> dict[str, str]:
    """What a container asks for, or may have at most."""
    return {"cpu": cpu_quantity(cpus), "memory": memory_quantity(memory_mib)}


def cpu_quantity(cpus: float) -> str:
    """CPUs, in thousandths where they are not whole: `2`, `1500m`."""
    millis = round(cpus * _MILLIS)
    return f"{millis}m" if millis % _MILLIS else str(millis // _MILLIS)


def memory_quantity(mib: float) -> str:
    """Mebibytes, rounded to whole ones: `1536Mi`, `2Gi`, `1Ti`."""
    amount, unit = round(mib), 0
    while amount % _STEP == 0 and unit < len(_UNITS) - 1:
        amount, unit = amount // _STEP, unit + 1
    return f"{amount}{_UNITS[unit]}"
