"""The worlds a robot may meet. Importing this registers the `metarl/...` environments with gymnasium."""

from gymnasium import register

ARMS = {"Panda": "panda", "Iiwa": "iiwa", "XArm6": "xarm6"}
LEGGED = {"A1": "a1", "Laikago": "laikago", "MiniCheetah": "mini_cheetah", "Minitaur": "minitaur"}

JOBS = {"Reach": "arm", "Seek": "arm", "Push": "manipulation", "PickPlace": "manipulation", "Slide": "manipulation"}

for title, name in ARMS.items():
    for job, module in JOBS.items():
        if job != "Slide" or title == "Panda":
            id_, entry = f"metarl/{title}{job}-v0", f"envs.{module}:build"
            register(id=id_, entry_point=entry, kwargs={"robot": name, "job": job})
# Minitaur's legs move in planes: it cannot step aside, and hardly turns. Short legs step faster and lower.
STILL = (0.0, 0.0)
PLANAR = {"left": STILL, "yaw_rate": STILL, "frequency": (3.0, 5.0), "lift": (0.01, 0.05)}
for title, name in LEGGED.items():
    kwargs = {"robot": name, **(PLANAR if title == "Minitaur" else {})}
    register(id=f"metarl/{title}Walk-v0", entry_point="envs.legged:build", kwargs=kwargs)
# Of a few numpy lines each, with no robot in them: `envs.classic`.
CLASSIC = ("Bandit", "TabularMDP", "PointNavigation", "RotatedPoint", "Sinusoid", "Binding", "Maze")
for name in CLASSIC:
    register(id=f"metarl/{name}-v0", entry_point="envs.classic_env:build", kwargs={"kind": name})
register(id="metarl/A1Uneven-v0", entry_point="envs.suite:a1_uneven")
register(id="metarl/A1Field-v0", entry_point="envs.suite:a1_field")
register(id="metarl/A1FieldUneven-v0", entry_point="envs.suite:a1_field_uneven")
register(id="metarl/A1FieldTurn-v0", entry_point="envs.suite:a1_field_turn")
register(id="metarl/MiniCheetahField-v0", entry_point="envs.suite:mini_cheetah_field")
