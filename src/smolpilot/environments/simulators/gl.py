"""Drawing with MuJoCo where there is no display. Imports the standard library only."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def choose_gl() -> None:
    """Draw without a display: EGL unless MUJOCO_GL says otherwise; PyOpenGL must agree with it."""
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    else:
        os.environ.setdefault("MUJOCO_GL", "glfw")


def draw_as_chosen() -> None:
    """MuJoCo has chosen how it draws when it was first imported, perhaps by somebody who drew nothing: choose again."""
    if sys.platform != "linux" or os.environ["MUJOCO_GL"] not in ("egl", "osmesa"):
        return
    from mujoco.rendering.classic import gl_context

    wanted = importlib.import_module(f"mujoco.{os.environ['MUJOCO_GL']}").GLContext
    gl_context.GLContext = wanted


@contextmanager
def no_drawing() -> Iterator[None]:
    """What PyOpenGL and MuJoCo raise where a library is missing, as ValueError(found, expected, fix)."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # they raise what they like
        gl = os.environ.get("MUJOCO_GL", "")
        raise ValueError(
            f"MuJoCo cannot draw by MUJOCO_GL={gl} here: {type(error).__name__}: {error}",
            "EGL or OSMesa, which draw without a display",
            "apt install libegl1 libegl-mesa0 libgl1-mesa-dri; or apt install libosmesa6 and set MUJOCO_GL=osmesa",
        ) from error
