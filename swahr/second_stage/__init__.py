"""The second stage: one person at a time, from what the bottom-up network found."""

from swahr.second_stage.classification import PixelClassification, SoftmaxHead
from swahr.second_stage.condition import ConditionedNetwork, PoseErrors
from swahr.second_stage.crops import crop_people, frames_of_people
from swahr.second_stage.deformation import Deformation, estimate_deformation, max_sum
from swahr.second_stage.deformation_file import deformation_to_dict, in_sides_of_crops, read_deformation
from swahr.second_stage.discriminators import ConfidenceDiscriminator, PoseDiscriminator
from swahr.second_stage.generator import StackedGenerator
from swahr.second_stage.messages import StructuredHeatmapHead
from swahr.second_stage.occlusion import OcclusionHead, OcclusionTarget
from swahr.second_stage.pose_nms import PoseNms
from swahr.second_stage.proposals import FittedProposals, ProposalBoxes
from swahr.second_stage.stage import SecondStage
from swahr.second_stage.transformer import LocalisationNetwork, ResNetFeature, SpatialTransformerNetwork
from swahr.second_stage.tree import KeypointTree, spanning_tree

__all__ = [
    "ConditionedNetwork",
    "ConfidenceDiscriminator",
    "Deformation",
    "FittedProposals",
    "KeypointTree",
    "LocalisationNetwork",
    "OcclusionHead",
    "OcclusionTarget",
    "PixelClassification",
    "PoseDiscriminator",
    "PoseErrors",
    "PoseNms",
    "ProposalBoxes",
    "ResNetFeature",
    "SecondStage",
    "SoftmaxHead",
    "SpatialTransformerNetwork",
    "StackedGenerator",
    "StructuredHeatmapHead",
    "crop_people",
    "deformation_to_dict",
    "estimate_deformation",
    "frames_of_people",
    "in_sides_of_crops",
    "max_sum",
    "read_deformation",
    "spanning_tree",
]
