"""The built wheel trains from another folder, in an environment that cannot see the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, without what the tests' own environment would lend it."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=repository)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_and_every_configuration(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside, pattern in (("swahr", "swahr", "*.py"), ("conf", "swahr/conf", "*.yaml")):
        files = {
            f"{inside}/{path.relative_to(repository / folder).as_posix()}"
            for path in (repository / folder).rglob(pattern)
        }
        assert files <= names, sorted(files - names)
    assert "swahr/py.typed" in names
    assert not any(name.startswith(("tests", "experiments", "notebooks")) for name in names)


def test_the_wheel_trains_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(environment, with_pip=False, symlinks=True)
    binaries = environment / "bin"
    # The dependencies are borrowed from the running environment. Its own .pth files, and with them the
    # editable installation of this checkout, are not read that way.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(
        sys.executable, "-m", "pip", "--python", binaries / "python", "--disable-pip-version-check",
        "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=elsewhere,
    )  # fmt: skip
    where = run(binaries / "python", "-c", "import swahr; print(swahr.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(environment)
    stdout = run(binaries / "swahr", "train", "experiment=smoke", "output=run", cwd=elsewhere)
    result = json.loads(stdout)
    assert Path(result["output"]) == Path("run")
    assert (elsewhere / "run" / "best.safetensors").is_file()
    assert "val/AP" in result["last_validation"]
