"""Pictures: poses, annotations and maps over images, contact sheets, training curves, bars.

Functions take an RGB image and return a new one; nothing is drawn in place. `write_image` saves it.
"""

from swahr.draw.bars import draw_ratios
from swahr.draw.curves import draw_curves
from swahr.draw.image_file import write_image
from swahr.draw.maps import draw_heatmaps, draw_scale_map, draw_tags, draw_weight_map
from swahr.draw.page import contact_sheet
from swahr.draw.panels import map_panels
from swahr.draw.poses import count_drawn, draw_annotations, draw_poses

__all__ = [
    "contact_sheet",
    "count_drawn",
    "draw_annotations",
    "draw_curves",
    "draw_heatmaps",
    "draw_poses",
    "draw_ratios",
    "draw_scale_map",
    "draw_tags",
    "draw_weight_map",
    "map_panels",
    "write_image",
]
