"""Decoding of dense maps to poses in the image frame."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64

from swahr.skeleton import Skeleton
from swahr.structures import DenseMaps, Groups, ImageMaps, Peaks, Poses

_SMALLEST_HEAT = 1e-6  # below it, nothing was seen


class Decoder:
    """Extracts peaks, groups, refines and recovers keypoints, and maps them from the map to the image frame.

    As in the published code, a person's score is the mean score of all keypoints before recovery, with 0 for
    missing ones.

    Args:
        skeleton: skeleton of the maps' channels.
        extract_peaks: finds local maxima (`swahr.grouping.PeakExtractor`).
        group: groups peaks into people, one `Groups` per image (`swahr.grouping.GatedGrouping`).
        refine: moves keypoints to sub-pixel positions (`swahr.decode.Dark`).
        recover: fills in missing keypoints (`swahr.decode.KeypointRecovery`); None leaves them missing.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        extract_peaks: Callable[[DenseMaps], Peaks],
        group: Callable[[Peaks], list[Groups]],
        refine: Callable[[Groups, ImageMaps], Groups],
        recover: Callable[[Groups, ImageMaps], Groups] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.extract_peaks, self.group = extract_peaks, group
        self.refine, self.recover = refine, recover

    def __call__(self, maps: DenseMaps) -> list[Poses]:
        """Return the poses of each image, in order of discovery. Frame: image.

        Raises:
            ValueError: the number of heatmaps differs from the skeleton's number of keypoints.
        """
        expected, got = self.skeleton.num_keypoints, maps.heatmaps.shape[1]
        if expected != got:
            raise ValueError(
                f"expected {expected} heatmaps, one per keypoint of skeleton '{self.skeleton.name}', got "
                f"{got}; use the skeleton that the network was trained with"
            )
        grouped = self.group(self.extract_peaks(maps))
        return [self._decode(maps, image, groups) for image, groups in enumerate(grouped)]

    def _decode(self, maps: DenseMaps, image: int, groups: Groups) -> Poses:
        own = maps.of_image(image)
        refined = self.refine(groups, own)
        complete = self.recover(refined, own) if self.recover is not None else refined
        keypoints = maps.map_from_image[image].inverse().apply(complete.positions)
        return Poses(
            keypoints=np.where(complete.present[..., None], keypoints, np.nan),
            scores=complete.scores,
            score=groups.scores.mean(axis=1),
            present=complete.present,
            skeleton=self.skeleton,
            occluded=occluded_share(complete, own),
        )


def occluded_share(groups: Groups, maps: ImageMaps) -> Float64[np.ndarray, "p k"] | None:
    """Return each keypoint's share of heat, at its pixel, that is of hidden keypoints, from 0 to 1."""
    if maps.occlusion is None:
        return None
    person, keypoint = np.nonzero(groups.present)
    size = np.array(maps.heatmaps.shape[:0:-1])  # width and height
    cell = np.clip(np.floor(groups.positions[person, keypoint]), 0, size - 1).astype(np.int64)
    index = tuple(torch.from_numpy(part).to(maps.heatmaps.device) for part in (keypoint, *cell.T[::-1]))
    share = maps.occlusion[index] / maps.heatmaps[index].clamp(min=_SMALLEST_HEAT)
    occluded = np.zeros(groups.present.shape)
    occluded[person, keypoint] = share.clamp(0, 1).cpu().double().numpy()
    return occluded
