"""stable-baselines3's actor and critic for a robot that is its own mirror image: what is learned on one side is known
on the other."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor

from metarl.networks import image, symmetric
from robots.mirror import Mirror


class BothSides(FlattenExtractor):
    """What is seen, and its image: features [2, batch, observation]."""

    def __init__(self, observation_space: spaces.Box, sees: Mirror) -> None:
        super().__init__(observation_space)
        self._sees = sees

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        here = super().forward(observations)
        return torch.stack([here, image(self._sees, here)])


class SymmetricPolicy(ActorCriticPolicy):
    """As `networks.Symmetric` acts; the value of what is seen is that of its image.

    sees, does: the images of an observation, and of an action.
    """

    def __init__(self, *args: Any, sees: Mirror, does: Mirror, **kwargs: Any) -> None:
        both = {"features_extractor_class": BothSides, "features_extractor_kwargs": {"sees": sees}}
        super().__init__(*args, **{**kwargs, **both})
        self._does = does
        self.value_net.register_forward_hook(lambda layer, given, value: value.mean(0))

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Distribution:
        mean, log_std = symmetric(self.action_net(latent_pi), self.log_std, self._does)
        assert isinstance(self.action_dist, DiagGaussianDistribution)
        return self.action_dist.proba_distribution(mean, log_std)
