"""From dense maps to poses in the image frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from swahr.decode.recover import KeypointRecovery
from swahr.decode.subpixel import SubpixelRefiner
from swahr.geometry import Affine
from swahr.skeleton import Skeleton
from swahr.structures import DenseMaps, Groups, Peaks, Poses


class Decoder:
    """Peaks, grouping, refinement, recovery; then from the map to the image frame.

    A person's score is the mean over all keypoints of the scores before recovery, a missing one counting 0,
    as the published code has it.

    Args:
        skeleton: what the maps' channels are.
        extract_peaks: finds local maxima.
        group: assembles them into people, one `Groups` per image.
        refine: moves keypoints to sub-pixel positions.
        recover: fills in missing keypoints.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        extract_peaks: Callable[[DenseMaps], Peaks],
        group: Callable[[Peaks], list[Groups]],
        refine: SubpixelRefiner,
        recover: KeypointRecovery,
    ) -> None:
        self.skeleton = skeleton
        self.extract_peaks = extract_peaks
        self.group = group
        self.refine = refine
        self.recover = recover

    def __call__(self, maps: DenseMaps) -> list[Poses]:
        """Return the poses of each image, in order of discovery. Frame: image.

        Raises:
            ValueError: the maps have another number of channels than the skeleton has keypoints.
        """
        if maps.heatmaps.shape[1] != self.skeleton.num_keypoints:
            raise ValueError(
                f"expected {self.skeleton.num_keypoints} heatmaps, one per keypoint of skeleton "
                f"'{self.skeleton.name}', got {maps.heatmaps.shape[1]}; use the skeleton the network was "
                "trained with"
            )
        grouped = self.group(self.extract_peaks(maps))
        return [self._decode(maps, image, groups) for image, groups in enumerate(grouped)]

    def _decode(self, maps: DenseMaps, image: int, groups: Groups) -> Poses:
        scales = None if maps.scales is None else maps.scales[image]
        refined = self.refine(groups, maps.heatmaps[image], scales)
        complete = self.recover(refined, maps.heatmaps[image], maps.tags[image])
        return self._poses(complete, groups.scores.mean(axis=1), maps.map_from_image[image])

    def _poses(self, groups: Groups, score: Float64[np.ndarray, " p"], map_from_image: Affine) -> Poses:
        keypoints = map_from_image.inverse().apply(groups.positions)
        return Poses(
            keypoints=np.where(groups.present[..., None], keypoints, np.nan),
            scores=groups.scores,
            score=score,
            present=groups.present,
            skeleton=self.skeleton,
        )
