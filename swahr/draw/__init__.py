"""Pictures of poses and annotations. Functions take an RGB image and return a new one.

The other modules need matplotlib and are imported by name, so that drawing poses does not import it.
"""

from swahr.draw.poses import count_drawn, draw_annotations, draw_poses

__all__ = ["count_drawn", "draw_annotations", "draw_poses"]
