"""A Gaussian and a diffusion policy in PyTorch, eager and compiled: the time of an action.

The Gaussian policy is that of Stable-Baselines3's SAC without its wrappers: two layers of 256 with
ReLU, a mean and a log standard deviation, a sample through tanh. The diffusion policy denoises an
action in 20 steps (DDPM) with a network like SMFP's: three layers of 256 with Mish, whose inputs
are the observation, the noisy action and an embedding of the time. Both take an observation as a
NumPy array (1, 17) and return a NumPy array.

    act_torch.py            # a peer of turns.py: times the given number of actions of each
"""

import torch
import turns
from torch import nn


class Gaussian(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (turns.OBS_DIM, 256, 256)
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, widths[1:])]
        self.trunk = nn.Sequential(*layers)
        self.mean = nn.Linear(256, turns.ACT_DIM)
        self.log_std = nn.Linear(256, turns.ACT_DIM)

    def forward(self, obs):
        hidden = self.trunk(obs)
        mean, log_std = self.mean(hidden), self.log_std(hidden).clamp(-20, 2)
        return torch.tanh(mean + log_std.exp() * torch.randn_like(mean))


class Diffusion(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (turns.OBS_DIM + turns.ACT_DIM + turns.TIME_DIM, 256, 256, 256)
        layers = [nn.Sequential(nn.Linear(a, b), nn.Mish()) for a, b in zip(widths, widths[1:])]
        self.noise = nn.Sequential(*layers, nn.Linear(256, turns.ACT_DIM))
        schedule = turns.diffusion_schedule()
        self.steps = schedule["steps"]
        self.register_buffer("times", torch.tensor(schedule["times"]))

    def forward(self, obs):
        x = torch.randn(len(obs), turns.ACT_DIM)
        for k, (scale, share, std) in enumerate(self.steps):
            noise = self.noise(torch.cat([obs, x, self.times[k : k + 1]], 1))
            x = scale * (x - share * noise)
            if std > 0:
                x = x + std * torch.randn_like(x)
        return x.clamp(-1, 1)


def prepare():
    torch.manual_seed(0)

    def acting(policy):
        def act(obs):
            with torch.inference_mode():
                return policy(torch.from_numpy(obs)).numpy()

        return act

    policies = {"gaussian": Gaussian(), "diffusion": Diffusion()}
    variants = {f"{name}, PyTorch": acting(policy) for name, policy in policies.items()}
    for name, policy in policies.items():
        variants[f"{name}, PyTorch compiled"] = acting(torch.compile(policy))
    return turns.time_actions(f"torch {torch.__version__}", variants)


if __name__ == "__main__":
    turns.serve(prepare)
