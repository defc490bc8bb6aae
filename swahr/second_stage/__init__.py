"""The second stage: what looks at one person at a time, after the first stage has found everyone."""

from swahr.second_stage.crops import crop_people, frames_of_people
from swahr.second_stage.stage import SecondStage

__all__ = ["SecondStage", "crop_people", "frames_of_people"]
