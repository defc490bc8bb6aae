"""Writes the golden numbers that travel with the project: a selection, small enough to be committed.

    python tests/golden/regenerate.py [../shared/golden]

The whole collection was computed with the official implementations and lies beside the repository. Left out
here: everything made from photographs, the tiny networks (weights do not compress), and the larger of several
cases of a kind; tests of those read the whole collection, and skip where it is absent. Values are copied bit
for bit.
"""

import gzip
import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np

WHOLE_COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "golden"
_SMALL_SCENES = "p0|p1_t1|p1_t2|p5_t2|spurious|missing|equal_tags|borders|crowd14_p5|nms3|plateau"
ARRAYS = {  # file: which of its arrays
    "b_targets.npz": r".*/(joints|heatmaps|indices)",
    "c_losses.npz": r"heat/.*|ae/(joints|tags|exp/.*)|(multi_swahr17_empty|multi_higher17)/.*",
    "d_group.npz": rf"({_SMALL_SCENES})/(det|tag)|.*/(topk_.*|match.*|adjust|refine.*|scores)",
    "d_munkres.npz": r".*",
    "e_geometry.npz": r".*",
    "g_dark.npz": r"(64x48_k11|64x48_k17|degenerate)/(heatmaps|argmax|refined)",
}
JSON = ("a_keys_*.json", "d_group.json", "e_sizes.json")
_TIMELESS = (1980, 1, 1, 0, 0, 0)  # so that the same numbers give the same file


def main(source: Path, target: Path) -> None:
    """Write the selection of ``source`` into ``target``."""
    for file, pattern in ARRAYS.items():
        with (
            np.load(source / file) as arrays,
            zipfile.ZipFile(target / file, "w", zipfile.ZIP_LZMA) as archive,
        ):
            for name in filter(re.compile(pattern).fullmatch, sorted(arrays.files)):
                stream = io.BytesIO()
                np.save(stream, arrays[name])
                entry = zipfile.ZipInfo(f"{name}.npy", _TIMELESS)
                archive.writestr(entry, stream.getvalue(), zipfile.ZIP_LZMA)
    for path in (path for pattern in JSON for path in sorted(source.glob(pattern))):
        compact = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
        (target / f"{path.name}.gz").write_bytes(gzip.compress(compact.encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else WHOLE_COLLECTION, Path(__file__).parent)
