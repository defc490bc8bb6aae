"""Composition of sources of images."""

from omegaconf import OmegaConf

from swahr.build_data import annotation_files


def test_stamps_know_layouts_and_the_files_of_mixed_sources():
    mixed = {"sources": {"rendered": {"layouts": "b.json"}, "photographs": {"annotations": "c.json"}}}
    nodes = OmegaConf.create([mixed, {"annotations": "a.json", "layouts": None}, {"size": 3}])
    assert annotation_files(list(nodes)) == ["a.json", "b.json", "c.json"]
