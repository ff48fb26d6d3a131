"""The tasks of dm_control's suite that `models/dm_control` has as files, played by dm_control itself.

For scripts/parity.py and scripts/record_dm_control.py. Needs Python 3.11 or newer and pip: the pinned
dm_control is installed from PyPI into third_party/python-dm_control (480 MB on disk).
"""

import importlib.util
import os
import sys

import parity

PACKAGES = parity.ROOT / "third_party" / "python-dm_control"
PINS = ["dm-control==1.0.50", "mujoco==3.17.0", "numpy==2.4.6"]
FILES = parity.ROOT / "models" / "dm_control"
TASKS = sorted(file.stem for file in FILES.glob("*.toml"))

# NumPy's vectorised loops for exp, log1p ... give other last bits than the C library. Without them a
# reward is the same on every processor.
PORTABLE = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}


def use_dm_control():
    """Makes the pinned dm_control importable."""
    if sys.version_info < parity.OLDEST_PYTHON:
        parity.fail(f"this is Python {sys.version.split()[0]}; {PINS[2]} needs 3.11 or newer")
    if not parity.install(PACKAGES, PINS, "480 MB on disk"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    os.environ.setdefault("MUJOCO_GL", "disable")
    if importlib.util.find_spec("absl"):
        import absl.logging

        absl.logging.set_verbosity("error")  # MuJoCo's warnings about old MJCF attributes


def load(task, seed):
    """The environment of a task such as "walker-run", with its random stream from `seed`."""
    from dm_control import suite

    domain, name = task.rsplit("-", 1)
    return suite.load(domain, name, task_kwargs={"random": seed})


def flat(step):
    """The observation as one vector, in dm_control's order."""
    import numpy as np

    return np.concatenate([np.ravel(part) for part in step.observation.values()]).astype(np.float64)


def replay(task, seed, actions):
    """Steps through float32 actions and resets when an episode ends, as `runner trace` does."""
    import numpy as np

    env = load(task, seed)
    reset_obs, rows = [flat(env.reset())], []
    for action in actions:
        step = env.step(action.astype(np.float64))
        over = step.last()
        rows.append((flat(step), float(step.reward), over and step.discount == 0, over and step.discount != 0))
        if over:
            reset_obs.append(flat(env.reset()))
    obs, reward, terminated, truncated = zip(*rows)
    return {
        "obs": np.array(obs),
        "reset_obs": np.array(reset_obs),
        "reward": np.array(reward),
        "terminated": np.array(terminated, np.uint8),
        "truncated": np.array(truncated, np.uint8),
    }


def action_space(task):
    """The shape and the upper bounds of an action, as parity.draw_actions expects them."""
    from types import SimpleNamespace

    spec = load(task, 0).action_spec()
    return SimpleNamespace(shape=spec.shape, high=spec.maximum)
