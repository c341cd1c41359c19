"""Pretext tasks, one a file; `method` is their contract, and METHODS all of them by the name that a recipe gives."""

from s2dc_core.methods.mae3d import MAE3D, MAE3DOptions
from s2dc_core.methods.method import Method, MethodOptions, Plan, Regions
from s2dc_core.methods.pcrlv2 import PCRLv2, PCRLv2Options
from s2dc_core.methods.s2dc import S2DC, S2DCOptions
from s2dc_core.methods.simmim import SimMIM, SimMIMOptions
from s2dc_core.methods.voco import VoCo, VoCoOptions

METHODS: dict[str, type[MethodOptions]] = {
    "s2dc": S2DCOptions,
    "simmim": SimMIMOptions,
    "mae3d": MAE3DOptions,
    "voco": VoCoOptions,
    "pcrlv2": PCRLv2Options,
}

__all__ = [
    "MAE3D",
    "METHODS",
    "S2DC",
    "MAE3DOptions",
    "Method",
    "MethodOptions",
    "PCRLv2",
    "PCRLv2Options",
    "Plan",
    "Regions",
    "S2DCOptions",
    "SimMIM",
    "SimMIMOptions",
    "VoCo",
    "VoCoOptions",
]
