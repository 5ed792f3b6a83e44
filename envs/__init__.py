"""The worlds a robot may meet. Importing this registers the `metarl/...` environments with gymnasium."""

from gymnasium import register

register(id="metarl/PandaReach-v0", entry_point="envs.arm:panda_reach")
register(id="metarl/PandaSeek-v0", entry_point="envs.arm:panda_seek")
