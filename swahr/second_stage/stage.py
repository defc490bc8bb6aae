"""Runs a single-person network on a crop of each pose, and returns its poses in the image."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from swahr.aggregate import Aggregator
from swahr.decode.decoder import occluded_share
from swahr.geometry import Affine, Alignment, map_from_input
from swahr.second_stage.condition import PoseErrors, mirror_condition
from swahr.second_stage.crops import confident_keypoints, crop_people, frames_of_people
from swahr.second_stage.deformation import max_sum
from swahr.second_stage.deformation_file import read_deformation
from swahr.second_stage.tree import spanning_tree
from swahr.skeleton import Skeleton
from swahr.structures import Groups, ImageMaps, NetworkOutput, Poses

Network = Callable[..., NetworkOutput]
Keypoints = Float32[Tensor, "n k 2"]
"""A condition: what a conditioned network sees beside crops (`swahr.second_stage.ConditionedNetwork`)."""
Images = Sequence[UInt8[np.ndarray, "_ _ 3"]]
Found = tuple[Float64[np.ndarray, "n k 2"], Float64[np.ndarray, "n k"], Float64[np.ndarray, "n k"] | None]
"""Positions (frame: crop) and scores of the keypoints in n crops; and, with occlusion maps, how hidden."""
_LOWEST_HEAT = 0.01  # for `max_sum`: the logarithm of lower heat would be noise, or infinite


class SecondStage:
    """Finds the keypoints of each person anew, in a crop around the person's pose.

    A keypoint is the highest pixel of its heatmap, or, with a deformation, one that also suits the person's
    other keypoints. It is refined as in the first stage; its score is that pixel's
    heat. A person's score is the mean over all keypoints, with 0 for missing ones. People without a keypoint
    are returned as they are; people of whom the network sees no keypoint are left out. Whether a keypoint is
    hidden is known from the network's occlusion maps, or from the first stage if it has none.

    Args:
        skeleton: skeleton of the heatmaps' channels.
        refine: moves keypoints to sub-pixel positions (`swahr.decode.Dark`).
        crop_size: height and width of the crops, multiples of ``size_multiple``; one number for squares.
        enlarge: factor on the bounding box of a person's keypoints (see `swahr.person_frame.person_frame`).
        box_threshold: keypoints of the first stage with lower scores do not count for the box.
        flip: also run the network on mirrored crops, and average.
        threshold: keypoints with scores up to this are missing.
        join_scores: whether a person's score is the geometric mean of both stages' scores, or the second's.
        batch_size: maximum number of people per batch, which may be from several images.
        alignment: position of the maps on the crop, see `swahr.geometry.map_from_input`.
        size_multiple: the network accepts sides that are multiples of this.
        condition: None for a network of crops alone. A conditioned network also sees the first stage's
            keypoints that count for the box; these errors are in its condition where poses are annotated.
        deformation: a file of `swahr fit-deformation`, with which all keypoints of a person are chosen
            together (`swahr.second_stage.max_sum`), or None. A test-time setting.
        deformation_weight: factor on the cost of deformation; 0 chooses the highest pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a parameter is out of range, or the deformation is malformed or of other crops.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        refine: Callable[[Groups, ImageMaps], Groups],
        crop_size: int | Sequence[int],
        enlarge: float = 1.3,
        box_threshold: float = 0.1,
        flip: bool = True,
        threshold: float = 0.0,
        join_scores: bool = True,
        batch_size: int = 64,
        alignment: Alignment = "centre",
        size_multiple: int = 32,
        condition: PoseErrors | None = None,
        deformation: str | None = None,
        deformation_weight: float = 1.0,
    ) -> None:
        sides = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(sides) != 2 or min(sides) < 1 or any(side % size_multiple for side in sides):
            raise ValueError(
                f"expected crop_size = (height, width), multiples of the network's size_multiple "
                f"{size_multiple}, got {sides}; choose the size of its training"
            )
        if enlarge <= 0 or batch_size < 1:
            raise ValueError(f"expected enlarge > 0 and batch_size >= 1, got {enlarge} and {batch_size}")
        self.skeleton, self.refine, self.alignment = skeleton, refine, alignment
        self.crop_size, self.enlarge, self.box_threshold = (sides[0], sides[1]), enlarge, box_threshold
        self.threshold, self.join_scores, self.batch_size = threshold, join_scores, batch_size
        self.condition = condition
        self.aggregate = Aggregator(skeleton.flip_permutation, flip=flip)  # to merge maps only
        if not 0 <= deformation_weight < np.inf:
            raise ValueError(f"expected a finite deformation_weight of at least 0, got {deformation_weight}")
        self.deformation = None
        if deformation is not None:
            fitted = read_deformation(deformation, skeleton, crop_size=self.crop_size, enlarge=enlarge)
            self.deformation = replace(fitted, weight=fitted.weight * deformation_weight)

    def __call__(
        self,
        network: Network,
        images: Images,
        poses: Sequence[Poses],
        device: torch.device,
        *,
        annotated: Sequence[int] | None = None,
    ) -> list[Poses]:
        """Return the poses of each image. Frame: image.

        Args:
            network: predicts heatmaps of crops on ``device``.
            images: RGB images.
            poses: the people of each image, of the first stage or annotated.
            device: the network's device.
            annotated: the images' ids if the poses are annotated.

        Raises:
            ValueError: heatmaps are not finite or not one per keypoint.
        """
        people = [
            (image, person, frame)
            for image, own in enumerate(poses)
            for person, frame in enumerate(self._frames(own))
            if frame is not None
        ]
        ids: Sequence[int | None] = [None] * len(poses) if annotated is None else annotated
        shown = [self._shown(own, image_id) for own, image_id in zip(poses, ids, strict=True)]
        keypoints, scores = [own.keypoints.copy() for own in poses], [own.scores.copy() for own in poses]
        occluded = [None if own.occluded is None else own.occluded.copy() for own in poses]
        for start in range(0, len(people), self.batch_size):
            batch = people[start : start + self.batch_size]
            pictures, frames = [images[image] for image, _, _ in batch], [frame for _, _, frame in batch]
            crops = crop_people(pictures, frames, self.crop_size).to(device)
            points = np.stack([frame.apply(shown[image][person]) for image, person, frame in batch])
            condition = [torch.from_numpy(points).float().to(device)] if self.condition else []
            positions, heat, hidden = self.read(network, crops, *condition)
            for n, (image, person, frame) in enumerate(batch):
                keypoints[image][person] = frame.inverse().apply(positions[n])
                scores[image][person] = heat[n]
                if hidden is not None:
                    own = occluded[image]
                    occluded[image] = own = np.zeros(scores[image].shape) if own is None else own
                    own[person] = hidden[n]
        return [self._joined(*one) for one in zip(poses, keypoints, scores, occluded, strict=True)]

    def read(self, network: Network, crops: UInt8[Tensor, "n 3 H W"], *condition: Keypoints) -> Found:
        """Return the keypoints of the person in each crop. Frame: crop; errors as in `__call__`."""
        with torch.inference_mode():
            maps = self.aggregate.forward_test_scale(self._seeing(network, crops, *condition), crops)
        heatmaps = maps["heatmaps"]
        n, k, h, w = heatmaps.shape
        if k != self.skeleton.num_keypoints or not torch.isfinite(heatmaps.sum()):
            raise ValueError(
                f"expected {self.skeleton.num_keypoints} finite heatmaps from the single-person network, got "
                f"{k}{'' if k != self.skeleton.num_keypoints else ' with NaN or infinity'}; choose another "
                "second_stage.checkpoint, or precision=fp32"
            )
        heat, pixel = (part.cpu().numpy() for part in self._chosen(heatmaps))  # (n k)
        # All crops are refined at once: as the n * k heatmaps of one person.
        groups = Groups(
            positions=np.stack([pixel % w, pixel // w], axis=-1).reshape(1, n * k, 2) + 0.5,
            scores=heat.astype(np.float64).reshape(1, n * k),
            present=np.ones((1, n * k), dtype=np.bool_),
            tag=np.zeros((1, 1)),
        )
        each = ImageMaps({name: merged.flatten(0, 1) for name, merged in maps.items()})
        refined = self.refine(groups, each)
        hidden = occluded_share(refined, each)
        crop_from_map = map_from_input(crops.shape[2] // h, self.alignment).inverse()
        positions = crop_from_map.apply(refined.positions.reshape(n, k, 2))
        return positions, groups.scores.reshape(n, k), None if hidden is None else hidden.reshape(n, k)

    def _chosen(self, heatmaps: Float32[Tensor, "n k h w"]) -> Sequence[Tensor]:
        """Return the heat and the index, y * w + x, of each keypoint's pixel, (n k)."""
        flat, (h, w) = heatmaps.flatten(2), heatmaps.shape[2:]
        if self.deformation is None:
            return flat.max(dim=2)
        scores = heatmaps.clamp(min=_LOWEST_HEAT).log().cpu().numpy()
        tree, deformation = spanning_tree(self.skeleton), self.deformation.on_map((h, w))
        pixels = np.stack([max_sum(person, tree, deformation) for person in scores])
        index = torch.from_numpy(pixels[..., 1] * w + pixels[..., 0]).to(flat.device)
        return flat.gather(2, index[..., None])[..., 0], index

    def _frames(self, poses: Poses) -> list[Affine | None]:
        return frames_of_people(poses, self.crop_size, enlarge=self.enlarge, box_threshold=self.box_threshold)

    def _shown(self, poses: Poses, image_id: int | None) -> Float64[np.ndarray, "p k 2"]:
        """Return the keypoints of an image that a conditioned network sees, NaN where it sees none."""
        counts = confident_keypoints(poses, self.box_threshold)
        shown = np.where(counts[..., None], poses.keypoints, np.nan)
        if image_id is None or self.condition is None:
            return shown
        return self.condition.of_image(shown, image_id, flip_permutation=self.skeleton.flip_permutation)

    def _seeing(self, network: Network, crops: Tensor, *condition: Keypoints) -> Network:
        """Return the network with the condition of the crops, and in the next call of the mirrored ones."""
        permutation = self.skeleton.flip_permutation
        mirrored = [mirror_condition(one, crops.shape[3], permutation) for one in condition]
        views = iter((condition, mirrored))
        return lambda images: network(images, *next(views))

    def _joined(
        self,
        first: Poses,
        keypoints: Float64[np.ndarray, "p k 2"],
        scores: Float64[np.ndarray, "p k"],
        occluded: Float64[np.ndarray, "p k"] | None,
    ) -> Poses:
        seen = np.count_nonzero(first.present, axis=1) > 0
        present = np.where(seen[:, None], scores > self.threshold, first.present)
        scores = np.where(present, scores, 0.0)
        score = scores.mean(axis=1)
        if self.join_scores:
            score = np.sqrt((score * first.score).clip(min=0))
        joined = replace(
            first,
            keypoints=np.where(present[..., None], keypoints, np.nan),
            scores=scores,
            score=np.where(seen, score, first.score),
            present=present,
            occluded=None if occluded is None else np.where(present, occluded, 0.0),
        )
        return joined.select(present.any(axis=1) | ~seen)
