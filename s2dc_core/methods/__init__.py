"""Pretext tasks, one a file; `method` is their contract, and METHODS all of them by the name that a recipe gives."""

from s2dc_core.methods.gl_mae import GLMAE, GLMAEOptions
from s2dc_core.methods.gvsl import GVSL, GVSLOptions
from s2dc_core.methods.jigsaw import Jigsaw, JigsawOptions
from s2dc_core.methods.mae3d import MAE3D, MAE3DOptions
from s2dc_core.methods.method import Method, MethodOptions, Plan, Regions
from s2dc_core.methods.moco_v3 import MoCoV3, MoCoV3Options
from s2dc_core.methods.models_genesis import ModelsGenesis, ModelsGenesisOptions
from s2dc_core.methods.pcrlv1 import PCRLv1, PCRLv1Options
from s2dc_core.methods.pcrlv2 import PCRLv2, PCRLv2Options
from s2dc_core.methods.position_label import PositionLabel, PositionLabelOptions
from s2dc_core.methods.rot import ROT, ROTOptions
from s2dc_core.methods.rubik import Rubik, RubikOptions
from s2dc_core.methods.s2dc import S2DC, S2DCOptions
from s2dc_core.methods.simclr import SimCLR, SimCLROptions
from s2dc_core.methods.simmim import SimMIM, SimMIMOptions
from s2dc_core.methods.swin_unetr import SwinUNETR, SwinUNETROptions
from s2dc_core.methods.swinmm import SwinMM, SwinMMOptions
from s2dc_core.methods.vicregl import VICRegL, VICRegLOptions
from s2dc_core.methods.voco import VoCo, VoCoOptions

METHODS: dict[str, type[MethodOptions]] = {
    "s2dc": S2DCOptions,
    "simmim": SimMIMOptions,
    "mae3d": MAE3DOptions,
    "voco": VoCoOptions,
    "pcrlv2": PCRLv2Options,
    "simclr": SimCLROptions,
    "moco_v3": MoCoV3Options,
    "jigsaw": JigsawOptions,
    "position_label": PositionLabelOptions,
    "swin_unetr": SwinUNETROptions,
    "swinmm": SwinMMOptions,
    "gl_mae": GLMAEOptions,
    "gvsl": GVSLOptions,
    "rot": ROTOptions,
    "models_genesis": ModelsGenesisOptions,
    "vicregl": VICRegLOptions,
    "pcrlv1": PCRLv1Options,
    "rubik": RubikOptions,
}

__all__ = [
    "GLMAE",
    "GLMAEOptions",
    "GVSL",
    "GVSLOptions",
    "Jigsaw",
    "JigsawOptions",
    "MAE3D",
    "MAE3DOptions",
    "METHODS",
    "Method",
    "MethodOptions",
    "MoCoV3",
    "MoCoV3Options",
    "ModelsGenesis",
    "ModelsGenesisOptions",
    "PCRLv1",
    "PCRLv1Options",
    "PCRLv2",
    "PCRLv2Options",
    "Plan",
    "PositionLabel",
    "PositionLabelOptions",
    "ROT",
    "ROTOptions",
    "Regions",
    "Rubik",
    "RubikOptions",
    "S2DC",
    "S2DCOptions",
    "SimCLR",
    "SimCLROptions",
    "SimMIM",
    "SimMIMOptions",
    "SwinMM",
    "SwinMMOptions",
    "SwinUNETR",
    "SwinUNETROptions",
    "VICRegL",
    "VICRegLOptions",
    "VoCo",
    "VoCoOptions",
]
