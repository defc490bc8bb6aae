from dataclasses import replace

import numpy as np
import pytest

from swahr.structures import ABSENT, OCCLUDED, VISIBLE
from swahr.synthetic import SyntheticSource, sampled_crowd
from swahr.synthetic.appearance import PART, sample_outfits
from swahr.synthetic.body import BONES, INDEX, LANDMARKS, Bodies, euler_rotations
from swahr.synthetic.painter import NOBODY, OBJECT, PART_BITS, Canvas, paint_person
from swahr.synthetic.sampled_crowd import sample_bodies
from swahr.synthetic.scene import annotate, landmark_visibility
from swahr.synthetic.shapes import person_shapes

SIZE = (240, 200)
LIGHT = np.array([0.0, -1.0])


def standing(yaw: float, count: int = 1, reach: float = 0.0) -> Bodies:
    """People 200 pixels tall, turned by ``yaw`` degrees, their arms ``reach`` degrees to the front."""
    angles = np.zeros((count, sampled_crowd._NUM_JOINTS, 3))
    angles[:, sampled_crowd._ROOT, 2] = np.deg2rad(yaw)
    for side, sign in ((0, 1.0), (1, -1.0)):
        angles[:, sampled_crowd._SHOULDER + side, :2] = np.deg2rad((-sign * 18, reach))
    points, head = sampled_crowd._forward_kinematics(euler_rotations(angles), np.ones(count), np.ones(count))
    ones = np.ones(count)
    return Bodies(points, head, ones, ones, ones).placed(200 * ones, np.full((count, 2), (100.0, 110.0)))


def painted(bodies: Bodies, *, cropped: bool = True) -> tuple[Canvas, object]:
    outfits = sample_outfits(np.random.default_rng(0), len(bodies), 1)
    if cropped:  # short hair, trousers: nothing hangs over a joint
        zeros = np.zeros(len(bodies))
        outfits = replace(outfits, hair=zeros, skirt=zeros, hat=zeros.astype(bool))
    canvas = Canvas.on(np.full((*SIZE, 3), 90, np.uint8))
    for person, shapes in enumerate(person_shapes(bodies, outfits, LIGHT)):
        paint_person(canvas, shapes, bodies, outfits, person)
    return canvas, outfits


def seen(bodies: Bodies, canvas: Canvas, person: int = 0) -> dict[str, int]:
    values = landmark_visibility(bodies, canvas.ids)[person]
    return dict(zip(LANDMARKS, values.tolist(), strict=True))


def test_somebody_facing_the_viewer_shows_everything_with_the_left_on_the_right():
    bodies = standing(0)
    visible = seen(bodies, painted(bodies)[0])
    x = dict(zip(LANDMARKS, bodies.points[0, :, 0], strict=True))
    for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert x[f"left_{part}"] > x[f"right_{part}"]
        assert visible[f"left_{part}"] == visible[f"right_{part}"] == VISIBLE, part
    assert visible["nose"] == VISIBLE


def test_somebody_seen_from_behind_hides_the_face_only():
    bodies = standing(180)
    visible = seen(bodies, painted(bodies)[0])
    x = dict(zip(LANDMARKS, bodies.points[0, :, 0], strict=True))
    assert x["left_shoulder"] < x["right_shoulder"]
    assert {visible[name] for name in ("nose", "left_eye", "right_eye")} == {OCCLUDED}
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert visible[f"left_{part}"] == visible[f"right_{part}"] == VISIBLE, part


@pytest.mark.parametrize(("yaw", "near", "far"), [(90, "right", "left"), (-90, "left", "right")])
def test_somebody_seen_from_the_side_hides_the_far_half(yaw, near, far):
    bodies = standing(yaw, reach=60)  # hands that hang would hide the hips
    visible = seen(bodies, painted(bodies)[0])
    nose, neck = bodies.points[0, INDEX["nose"], 0], bodies.points[0, INDEX["neck"], 0]
    assert (nose > neck) == (yaw > 0)
    for part in ("ear", "shoulder", "hip", "knee"):
        assert visible[f"{near}_{part}"] == VISIBLE, part
        assert visible[f"{far}_{part}"] == OCCLUDED, part


def test_somebody_behind_a_nearer_twin_has_no_visible_keypoint_and_no_label():
    bodies = standing(0, count=2)
    canvas, _ = painted(bodies)
    assert set(seen(bodies, canvas, 0).values()) == {OCCLUDED}
    assert VISIBLE in seen(bodies, canvas, 1).values()
    scene = annotate(canvas, canvas.image, bodies, list(range(len(LANDMARKS))))
    assert len(scene.keypoints) == 1


def test_an_object_hides_what_is_behind_it():
    bodies = standing(0)
    canvas, _ = painted(bodies)
    before = seen(bodies, canvas)
    canvas.ids[150:] = OBJECT
    after = seen(bodies, canvas)
    for name in ("left_knee", "right_ankle"):
        assert (before[name], after[name]) == (VISIBLE, OCCLUDED)
    assert after["nose"] == VISIBLE


def test_keypoints_outside_the_image_are_absent():
    bodies = standing(0)
    moved = bodies.placed(np.ones(1), np.array([[0.0, 100.0]]))
    moved = replace(moved, stature=bodies.stature)
    visible = seen(moved, painted(moved)[0])
    assert visible["left_ankle"] == visible["right_knee"] == ABSENT
    assert visible["left_shoulder"] == VISIBLE


def test_long_hair_hides_the_ears_that_it_covers():
    bodies = standing(180)
    _, outfits = painted(bodies)
    canvas = Canvas.on(np.zeros((*SIZE, 3), np.uint8))
    outfits = replace(outfits, hair=np.full(1, 0.15))
    paint_person(canvas, person_shapes(bodies, outfits, LIGHT)[0], bodies, outfits, 0)
    assert PART["hair"] in np.unique(canvas.ids & ((1 << PART_BITS) - 1))
    assert seen(bodies, canvas)["left_ear"] == OCCLUDED


def test_the_id_buffer_follows_the_picture():
    bodies = standing(30)
    canvas, _ = painted(bodies)
    changed = (canvas.image != 90).any(axis=-1)
    named = canvas.ids != NOBODY
    assert np.mean(changed != named) < 0.02  # the antialiased rim
    assert named.sum() > 2000


def test_recolouring_a_limb_changes_the_picture_exactly_where_its_visible_joints_are():
    bodies = sample_bodies(np.random.default_rng(7), 6, unusual=0.0)
    for person in range(6):
        alone = Bodies(
            *(getattr(bodies, name)[[person]] for name in ("points", "head", "stature", "girth", "head_size"))
        )
        alone = alone.placed(np.full(1, 190.0), np.array([[100.0, 115.0]]))
        outfits = sample_outfits(np.random.default_rng(person), 1, 1)
        outfits = replace(outfits, pattern=np.full((1, 2), -1))
        pictures = []
        for tint in (40, 200):
            colours = outfits.colours.copy()
            colours[
                0, [i for name, i in PART.items() if name.startswith("left_fore") or name == "left_cuff"]
            ] = tint
            canvas = Canvas.on(np.zeros((*SIZE, 3), np.uint8))
            tinted = replace(outfits, colours=colours)
            paint_person(canvas, person_shapes(alone, tinted, LIGHT)[0], alone, tinted, 0)
            pictures.append(canvas.image.astype(int))
        changes = np.abs(pictures[0] - pictures[1]).sum(axis=-1) > 60
        middle = (
            alone.points[0, INDEX["left_elbow"], :2] * 0.4 + alone.points[0, INDEX["left_wrist"], :2] * 0.6
        )
        x, y = np.floor(middle).astype(int)
        part = int(canvas.ids[y, x]) & ((1 << PART_BITS) - 1)
        assert changes[y, x] == (part in (PART["left_forearm"], PART["left_cuff"]))


def test_bones_keep_their_lengths_and_joints_their_limits():
    bodies = sample_bodies(np.random.default_rng(1), 200, unusual=0.3)
    for a, b, bone in (("hip", "knee", "thigh"), ("knee", "ankle", "shin"), ("elbow", "wrist", "forearm")):
        for side in ("left", "right"):
            span = bodies.points[:, INDEX[f"{side}_{a}"]] - bodies.points[:, INDEX[f"{side}_{b}"]]
            assert np.allclose(np.linalg.norm(span, axis=1), BONES[bone])
    for side in ("left", "right"):
        thigh = bodies.points[:, INDEX[f"{side}_knee"]] - bodies.points[:, INDEX[f"{side}_hip"]]
        shin = bodies.points[:, INDEX[f"{side}_ankle"]] - bodies.points[:, INDEX[f"{side}_knee"]]
        bend = np.arccos(np.clip((thigh * shin).sum(1) / (0.245**2), -1, 1))
        assert np.rad2deg(bend).max() < 139
        toes = bodies.points[:, INDEX[f"{side}_toe"]] - bodies.points[:, INDEX[f"{side}_ankle"]]
        bent = bend > np.deg2rad(60)
        shin /= np.linalg.norm(shin, axis=1, keepdims=True)
        forward = toes - (toes * shin).sum(axis=1, keepdims=True) * shin
        assert (thigh * forward).sum(axis=1)[bent].min() > 0  # knees bend one way only


@pytest.mark.parametrize("facing", [0.0, 0.5, 1.0])
def test_the_given_fraction_of_people_faces_the_viewer(facing):
    bodies = sample_bodies(np.random.default_rng(3), 4000, unusual=0.0, facing=facing)
    left, right = bodies.points[:, INDEX["left_hip"], 0], bodies.points[:, INDEX["right_hip"], 0]
    front = np.mean(left > right)  # the left hip is on the image's right: yaw below 90 degrees
    others = (1 - facing) / 3  # half of those seen from the side and half of those turned anyhow
    assert front == pytest.approx(facing + others, abs=0.03)


def test_the_pixels_of_unlabelled_people_are_not_valid():
    source = SyntheticSource(
        size=1, image_size=(96, 96), people=(12, 12), objects=(12, 12), height_spread=6.0
    )
    found = 0
    for index in range(12):
        scene = source.scene(index)
        extra = scene.area[len(scene.keypoints) :]
        assert (~scene.valid).sum() == extra.sum()
        found += len(extra)
    assert found > 0


@pytest.mark.parametrize("yaw", range(0, 360, 45))
def test_clothes_lie_over_the_limbs_that_they_cover(yaw):
    bodies = standing(yaw, reach=80)
    _, outfits = painted(bodies)
    outfits = replace(outfits, sleeve=np.full(1, 0.6), breeches=np.full(1, 0.6), trouser=np.zeros(1))
    order = [shape.part for shape in person_shapes(bodies, outfits, LIGHT)[0]]
    for side in ("left", "right"):
        assert order.index(PART[f"{side}_sleeve"]) > order.index(PART[f"{side}_upper_arm"])
        assert order.index(PART[f"{side}_breeches"]) > order.index(PART[f"{side}_thigh"])
