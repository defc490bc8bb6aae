"""Callbacks that draw: pages of predictions and curves."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from swahr.data import Source
from swahr.draw import count_drawn, draw_poses
from swahr.draw.curves import draw_curves
from swahr.draw.page import contact_sheet
from swahr.draw.palette import Picture
from swahr.images import write_image
from swahr.rehearsal import rehearsed
from swahr.runs.files import only_logged
from swahr.structures import Poses
from swahr.training.module import PoseModule


def prediction_page(source: Source, indices: Iterable[int], poses: Mapping[int, Poses]) -> Picture:
    """A page of poses drawn over images of a source; images without an entry in ``poses`` are skipped."""
    images, captions = [], []
    for index in indices:
        labelled = source[index]
        if labelled.image_id in poses:
            found = poses[labelled.image_id]
            images.append(draw_poses(labelled.image, found))
            captions.append(
                f"{Path(source.describe(index)).name}: {count_drawn(found)} drawn of {len(found)} found, "
                f"{len(labelled.annotations)} annotated"
            )
    return contact_sheet(images, captions)


class PredictionPictures(Callback):
    """Draws the poses in the first validation images, as a page and in TensorBoard.

    Args:
        source: the validation images (`swahr.data.Source`).
        folder: the run's folder; pages are written to ``pictures`` in it.
        every: number of validations per page.
        count: number of images per page.
    """

    def __init__(self, *, source: Source, folder: Path, every: int = 5, count: int = 8) -> None:
        self.source = source
        self.folder = folder / "pictures"
        self.every = every
        self.count = min(count, len(source))
        self._validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or self.count == 0:
            return
        assert isinstance(pl_module, PoseModule)
        if trainer.sanity_checking:
            with rehearsed("the page of predictions"):
                prediction_page(self.source, [0], pl_module.validation_poses)
            return
        self._validations += 1
        if (self._validations - 1) % self.every:
            return
        with only_logged("no page of predictions"):
            page = prediction_page(self.source, range(self.count), pl_module.validation_poses)
            write_image(self.folder / f"epoch_{trainer.current_epoch:04d}.png", page)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("val/poses", page, trainer.global_step, dataformats="HWC")


class PlotCurves(Callback):
    """Draws loss and AP curves from the CSV log when training ends or fails.

    Args:
        folder: the run's folder, with ``metrics.csv``.
        footer: one line on the run's provenance.
    """

    def __init__(self, *, folder: Path, footer: str) -> None:
        self.folder = folder
        self.footer = footer

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw curves of two points."""
        if trainer.is_global_zero:
            with rehearsed("the drawing of curves"), TemporaryDirectory(dir=self.folder) as folder:
                metrics = Path(folder, "metrics.csv")
                metrics.write_text("step,train/loss,val/AP\n0,1,0\n1,1,0\n", encoding="utf-8")
                draw_curves(metrics, folder, footer=self.footer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = self.folder / "metrics.csv"
        with only_logged("no curves drawn"):
            for logger in trainer.loggers:
                logger.save()
            if trainer.is_global_zero and metrics.exists():
                draw_curves(metrics, self.folder, footer=self.footer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
