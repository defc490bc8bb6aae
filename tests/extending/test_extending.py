"""docs/extending.md: every example trains, predicts, and lies in a package outside swahr."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.conftest import run_swahr

from swahr import COCO, Poses, Predictor, read_image
from swahr.data import Source, collate
from swahr.data.transforms import RandomAffine
from swahr.images import write_image
from swahr.inference import open_exported
from swahr.structures import OCCLUDED, ImageMaps, Maps, MapTargets, Peaks
from swahr.synthetic import SyntheticSource
from swahr.targets import TargetEncoder

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
LONGEST = 60
SMALL = (  # one step on one batch
    "data.module.augmentation.input_size=64", "data.module.batch_size=2", "data.module.workers=0",
    "grouping.peaks.max_people=5", "grouping.peaks.threshold=-1", "trainer.max_epochs=1",
    "trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "training.callbacks.pictures=null",
    "training.callbacks.curves=null",
)  # fmt: skip
RENDERED = ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
SETTINGS = {  # beside those of the page's command
    "A backbone": ("model.backbone.widths=[8,8,8,8]", "model.backbone.blocks=1"),
    "A training procedure": ("training.module.frozen_epochs=1",),
}
OUTSIDE_CHECKPOINTS = {"A loss term", "A training procedure"}


@dataclass(frozen=True)
class Section:
    """One extension on the page: its files by path, and its command."""

    title: str
    files: dict[str, str]
    command: str


def sections() -> list[Section]:
    found = []
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL):
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
        named = [(re.search(r"^# (mypose/\S+)$", text, flags=re.MULTILINE), text) for _, text in blocks]
        files = {match[1]: text for match, text in named if match}
        (command,) = [text for language, text in blocks if language == "bash"]
        found.append(Section(title, files, command.strip()))
    return found


SECTIONS = {section.title: section for section in sections()}
every_section = pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)


@pytest.fixture(autouse=True)
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder, from which the user's package can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.set_num_threads(1)  # quicker for maps this small


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [SyntheticSource(size=1, seed=i, image_size=(64, 64))[0].image for i in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Makes the checkpoint of a section's command, once."""
    made: dict[str, Path] = {}

    def train(title: str) -> Path:
        if title not in made:
            root = tmp_path_factory.mktemp("trained")
            program, *arguments = shlex.split(SECTIONS[title].command.replace("PATH", str(root / "yolo")))
            assert program == "swahr"
            arguments = [argument for argument in arguments if not argument.startswith("weights=")]
            data = ()
            if title == "A data source":
                write_yolo(root / "yolo")
            else:
                data = RENDERED
            settings = (*SMALL, *data, *SETTINGS.get(title, ()), f"output={root / 'run'}")
            made[title] = Path(run_swahr(*arguments, *settings).result["best"])
        return made[title]

    return train


def write_yolo(root: Path) -> Source:
    """Rendered crowds with YOLO-pose labels; the source of what is written."""
    source = SyntheticSource(size=2, seed=3, image_size=(60, 64), people=(1, 2))
    for part in ("train", "val"):
        (root / "labels" / part).mkdir(parents=True)
        for index in range(len(source)):
            labelled = source[index]
            write_image(root / "images" / part / f"{index}.jpg", labelled.image)
            size = np.array(labelled.image.shape[1::-1])
            rows = []
            for points, seen in zip(
                labelled.annotations.keypoints, labelled.annotations.visibility, strict=True
            ):
                low, high = (bound(points[seen > 0], axis=0) / size for bound in (np.min, np.max))
                triples = np.column_stack([points / size * (seen > 0)[:, None], seen])
                rows.append([0, *(low + high) / 2, *(high - low), *triples.ravel()])
            np.savetxt(root / "labels" / part / f"{index}.txt", rows, fmt="%.6f")
    return source


def test_the_page_shows_every_file_and_no_other() -> None:
    files = [file for file in HERE.glob("mypose/**/*") if file.is_file() and file.suffix != ".pyc"]
    written = {file.relative_to(HERE).as_posix(): file.read_text(encoding="utf-8") for file in files}
    shown = {name: text for section in SECTIONS.values() for name, text in section.files.items()}
    assert shown == {name: text for name, text in written.items() if text}


@every_section
def test_an_extension_is_one_class_one_yaml_and_short(section: Section) -> None:
    code = [text for name, text in section.files.items() if name.endswith(".py")]
    assert len(code) == 1
    assert len(re.findall(r"^class ", code[0], flags=re.MULTILINE)) == 1
    assert len(section.files) - len(code) <= 1
    assert sum(len(text.splitlines()) for text in section.files.values()) <= LONGEST


@every_section
def test_it_trains_and_predicts(section: Section, trained, images) -> None:
    best = trained(section.title)
    if section.title in OUTSIDE_CHECKPOINTS:
        predictor = Predictor.from_checkpoint(best)
    else:
        with pytest.raises(ValueError, match=r"_target_=mypose\.\w+\.\w+ refused: .* the package mypose"):
            Predictor.from_checkpoint(best)
        predictor = Predictor.from_checkpoint(best, trust=["mypose"])
    assert sum(len(poses) for poses in predictor.predict(images)) > 0
    if section.title == "A sub-pixel method":
        assert type(predictor.pipeline.decode.refine).__name__ == "LogParabola"
    if section.title == "A grouping rule":
        assert type(predictor.pipeline.decode.group).__name__ == "GreedyGrouping"
    if section.title == "A post-processing step":
        assert [type(step).__name__ for step in predictor.pipeline.steps] == ["OksNms"]


def test_the_commands_need_the_same_trust(trained, images, tmp_path) -> None:
    best = trained("A post-processing step")
    write_image(tmp_path / "image.png", images[0])
    arguments = ("predict", f"checkpoint={best}", tmp_path / "image.png")
    error = run_swahr(*arguments, f"output={tmp_path}/a").error
    assert "postprocess.oks_nms._target_=mypose.postprocess.OksNms refused" in error
    assert run_swahr(*arguments, "trust=[mypose]", f"output={tmp_path}/b").result["people"] > 0


def test_test_time_parts_can_be_chosen_for_any_network(trained, images, tmp_path) -> None:
    best = trained("A loss term")
    write_image(tmp_path / "image.png", images[0])
    chosen = ("hydra.searchpath=[pkg://mypose.conf]", "decode=log_parabola", "postprocess=oks_nms")
    arguments = ("predict", f"checkpoint={best}", tmp_path / "image.png", *chosen)
    assert run_swahr(*arguments, f"output={tmp_path}/a").result["people"] > 0


def test_help_and_errors_know_the_options_of_the_package(tmp_path) -> None:
    path = "hydra.searchpath=[pkg://mypose.conf]"
    shown = run_swahr("train", "--help", path, "loss=hard_keypoints").stdout
    assert "_target_: mypose.losses.HardKeypoints" in shown
    error = run_swahr("train", path, "loss=hard_keypoint", f"output={tmp_path}/a").error
    assert "did you mean loss=hard_keypoints" in error


def test_the_loss_term_is_logged_and_mines_the_hardest(trained) -> None:
    header = (trained("A loss term").parent / "metrics.csv").read_text().splitlines()[0]
    assert {"train/hard_keypoints_4", "train/hard_keypoints_2"} <= set(header.split(","))
    from mypose.losses import HardKeypoints

    errors = torch.tensor([1.0, 3.0, 2.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    target = MapTargets(4, torch.ones(1, 4, 4, dtype=torch.bool), {"heatmaps": torch.zeros(1, 3, 4, 4)})
    value = HardKeypoints(hardest=2).at_stride(Maps(4, {"heatmaps": errors}), target)
    assert value.tolist() == [(9 + 4) / 2]


def test_the_heads_map_is_exported_and_painted(trained, images, tmp_path, untyped) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'swahr[onnx]'")
    best = trained("A head with its own map and target")
    path = tmp_path / "best.onnx"
    trust = "trust=[mypose]"
    assert run_swahr("export", f"checkpoint={best}", trust, f"output={path}").result["skeleton"] == "coco"
    batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    exported = open_exported(path, backend="onnxruntime", precision="fp32")(batch)["occluded_keypoints"]
    predictor = Predictor.from_checkpoint(best, trust=["mypose"])
    with torch.inference_mode():
        maps = predictor.pipeline.aggregate.forward_test_scale(predictor.network, batch)
    expected = maps["occluded_keypoints"]
    assert expected.abs().max() > 0
    np.testing.assert_allclose(exported, expected, rtol=1e-3, atol=1e-6)
    shown = run_swahr("show", f"checkpoint={best}", trust, f"output={tmp_path}/shown").result["pictures"]
    plain = run_swahr("show", f"checkpoint={trained('A loss term')}", f"output={tmp_path}/plain").result[
        "pictures"
    ]
    height, plain_height = (read_image(picture[0]).shape[0] for picture in (shown, plain))
    assert height > 1.2 * plain_height  # a row more, for its panels at two strides


def test_the_heads_target_holds_hidden_keypoints_only() -> None:
    from mypose.heads import occluded_keypoints

    labelled = SyntheticSource(size=1, seed=5, image_size=(64, 64), people=(3, 3))[0]
    still = RandomAffine(64, rotation=0.0, scaling=(1.0, 1.0), translation=0.0, flip=0.0)
    batch = collate([still(labelled, skeleton=COCO, rng=np.random.default_rng(0))])
    (maps,) = TargetEncoder((4,), extra={"occluded_keypoints": occluded_keypoints})(batch).maps
    hidden = (batch.visibility == OCCLUDED).any(dim=1)[0]
    assert 0 < hidden.sum() < COCO.num_keypoints
    assert torch.equal(maps.fields["occluded_keypoints"][0].amax(dim=(1, 2)) > 0, hidden)


def test_the_parabola_finds_the_maximum_of_a_gaussian() -> None:
    from mypose.subpixel import LogParabola

    x, y = torch.arange(16) + 0.5, torch.arange(12)[:, None] + 0.5
    heatmaps = torch.exp(-((x - 7.8) ** 2 + (y - 5.3) ** 2) / 8)[None].double()
    offset = LogParabola().offsets(ImageMaps({"heatmaps": heatmaps}), torch.tensor([[0, 5, 7]]))
    np.testing.assert_allclose(offset, [[0.3, -0.2]], atol=1e-4)
    border = LogParabola().offsets(ImageMaps({"heatmaps": heatmaps[:, :, 7:]}), torch.tensor([[0, 5, 0]]))
    np.testing.assert_allclose(border, [[0.0, -0.2]], atol=1e-4)


def test_greedy_grouping_takes_the_nearest_pair_first() -> None:
    from mypose.grouping import GreedyGrouping

    tags = torch.tensor([[[0.0, 5.0], [4.9, 0.6]]])[..., None]  # of two keypoints, two peaks each
    positions = torch.arange(8.0).view(1, 2, 2, 2)
    (groups,) = GreedyGrouping((0, 1))(Peaks(positions, torch.ones(1, 2, 2), tags))
    assert len(groups) == 2
    np.testing.assert_array_equal(groups.positions[:, 1], [[6.0, 7.0], [4.0, 5.0]])
    (apart,) = GreedyGrouping((0, 1), tag_threshold=0.5)(Peaks(positions, torch.ones(1, 2, 2), tags))
    assert len(apart) == 3


def test_the_source_reads_what_was_written(tmp_path) -> None:
    from mypose.sources import YoloPose

    written = write_yolo(tmp_path)
    source = YoloPose(str(tmp_path / "images" / "val"), COCO)
    assert isinstance(source, Source)
    assert len(source) == len(written)
    for index in range(len(written)):
        own, original = source[index].annotations, written[index].annotations
        seen = original.visibility > 0
        np.testing.assert_array_equal(own.visibility, original.visibility)
        np.testing.assert_allclose(own.keypoints[seen], original.keypoints[seen], atol=1e-3)
    assert len(source.ground_truth()["annotations"]) == sum(len(written[i].annotations) for i in range(2))
    (tmp_path / "labels" / "val" / "0.txt").unlink()  # an image of nobody
    assert len(source[0].annotations) == 0


def test_nms_keeps_the_best_of_similar_poses() -> None:
    from mypose.postprocess import OksNms

    one = np.random.default_rng(0).uniform(0, 100, (17, 2))
    keypoints = np.stack([one, one + 1, one + 300])
    present = np.ones((3, 17), dtype=bool)
    present[1, 0], keypoints[1, 0] = False, np.nan
    poses = Poses(keypoints, np.ones((3, 17)), np.array([0.5, 0.9, 0.1]), present, COCO)
    nobody = Poses(np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros((0, 17), bool), COCO)
    kept, none = OksNms(COCO)([], [poses, nobody])
    np.testing.assert_array_equal(kept.score, [0.9, 0.1])
    assert len(none) == 0


def test_the_procedure_leaves_the_backbone_alone(trained) -> None:
    last = torch.load(trained("A training procedure").parent / "last.ckpt", weights_only=True)
    counters = {key: int(n) for key, n in last["state_dict"].items() if key.endswith("num_batches_tracked")}
    steps = {
        part: {n for key, n in counters.items() if key.split(".")[1] == part}
        for part in ("backbone", "heads")
    }
    assert steps == {"backbone": {0}, "heads": {1}}
    learned = [
        key for key in last["state_dict"] if re.search(r"\.(heads|deconvolutions)\..*\.(weight|bias)$", key)
    ]
    assert len(last["optimizer_states"][0]["state"]) == len(learned)
