"""SAC in the style of CleanRL: one file of plain PyTorch, with a replay of NumPy arrays.

Its steps are those of CleanRL: two separate critic modules with one Adam, two actor updates at
every second step, each with a new sample for the temperature, a Polyak step of the targets
parameter by parameter after every step, and losses read at every hundredth step.

    cleanrl_sac.py WARMUP SETTLE        # a peer of turns.py: makes the given number of steps
"""

import sys
import time

import gymnasium
import numpy as np
import torch
import turns
from torch import nn
from torch.distributions import Normal
from torch.nn import functional

WIDTH, BATCH, CAPACITY = 256, 256, 1_000_000
GAMMA, TAU = 0.99, 0.005
ACTOR_RATE, CRITIC_RATE = 3e-4, 1e-3
ACTOR_PERIOD, TARGET_PERIOD, LOG_PERIOD = 2, 1, 100
LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0


class Critic(nn.Module):
    """Q(s, a): (B, 1)."""

    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.first = nn.Linear(obs_dim + act_dim, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, 1)

    def forward(self, obs, action):
        hidden = functional.relu(self.first(torch.cat([obs, action], 1)))
        return self.value(functional.relu(self.second(hidden)))


class Actor(nn.Module):
    """A tanh-squashed Gaussian, scaled to the bounds."""

    def __init__(self, obs_dim, space):
        super().__init__()
        self.first = nn.Linear(obs_dim, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.mean = nn.Linear(WIDTH, space.shape[0])
        self.log_std = nn.Linear(WIDTH, space.shape[0])
        self.register_buffer("scale", torch.as_tensor((space.high - space.low) / 2))
        self.register_buffer("centre", torch.as_tensor((space.high + space.low) / 2))

    def forward(self, obs):
        """An action (B, act_dim) and its log density (B, 1)."""
        hidden = functional.relu(self.second(functional.relu(self.first(obs))))
        share = (torch.tanh(self.log_std(hidden)) + 1) / 2
        std = torch.exp(LOG_STD_LOW + (LOG_STD_HIGH - LOG_STD_LOW) * share)
        gaussian = Normal(self.mean(hidden), std)
        raw = gaussian.rsample()
        squashed = torch.tanh(raw)
        slope = torch.log(self.scale * (1 - squashed**2) + 1e-6)
        log_prob = (gaussian.log_prob(raw) - slope).sum(1, keepdim=True)
        return squashed * self.scale + self.centre, log_prob


class Replay:
    """A ring buffer of transitions, float32."""

    def __init__(self, obs_dim, act_dim):
        widths = {"obs": obs_dim, "action": act_dim, "reward": 1, "next_obs": obs_dim, "over": 1}
        self.columns = {k: np.zeros((CAPACITY, w), np.float32) for k, w in widths.items()}
        self.pushed = 0

    def push(self, **transition):
        for name, value in transition.items():
            self.columns[name][self.pushed % CAPACITY] = value
        self.pushed += 1

    def sample(self):
        rows = np.random.randint(0, min(self.pushed, CAPACITY), BATCH)
        return (torch.from_numpy(column[rows]) for column in self.columns.values())


def training(env, actor, critics, warmup):
    """The training loop; yields after every environment step."""
    space = env.single_action_space
    obs_dim, act_dim = env.single_observation_space.shape[0], space.shape[0]
    targets = [Critic(obs_dim, act_dim) for _ in critics]
    for target, critic in zip(targets, critics):
        target.load_state_dict(critic.state_dict())
    both = [parameter for critic in critics for parameter in critic.parameters()]
    critic_adam = torch.optim.Adam(both, lr=CRITIC_RATE)
    actor_adam = torch.optim.Adam(actor.parameters(), lr=ACTOR_RATE)
    log_alpha = torch.zeros(1, requires_grad=True)
    alpha, alpha_adam = 1.0, torch.optim.Adam([log_alpha], lr=CRITIC_RATE)
    replay = Replay(obs_dim, act_dim)
    obs, _ = env.reset(seed=0)
    step = 0
    while True:
        if step < warmup:
            action = np.stack([space.sample()])
        else:
            action = actor(torch.as_tensor(obs, dtype=torch.float32))[0].detach().numpy()
        following, reward, terminated, truncated, infos = env.step(action)
        final = infos["final_obs"][0] if (terminated | truncated)[0] else following
        replay.push(obs=obs, action=action, reward=reward, next_obs=final, over=terminated)
        obs = following
        if step > warmup:
            s, a, r, s_next, over = replay.sample()
            with torch.no_grad():
                a_next, log_prob = actor(s_next)
                q_next = torch.min(*(target(s_next, a_next) for target in targets))
                goal = r + (1 - over) * GAMMA * (q_next - alpha * log_prob)
            losses = [functional.mse_loss(critic(s, a), goal) for critic in critics]
            critic_adam.zero_grad()
            sum(losses).backward()
            critic_adam.step()

            if step % ACTOR_PERIOD == 0:
                for _ in range(ACTOR_PERIOD):  # the same number of updates as without the delay
                    drawn, log_prob = actor(s)
                    q = torch.min(*(critic(s, drawn) for critic in critics))
                    actor_loss = (alpha * log_prob - q).mean()
                    actor_adam.zero_grad()
                    actor_loss.backward()
                    actor_adam.step()

                    with torch.no_grad():
                        _, log_prob = actor(s)
                    alpha_loss = -(log_alpha.exp() * (log_prob - act_dim)).mean()
                    alpha_adam.zero_grad()
                    alpha_loss.backward()
                    alpha_adam.step()
                    alpha = log_alpha.exp().item()

            if step % TARGET_PERIOD == 0:
                for target, critic in zip(targets, critics):
                    for slow, fast in zip(target.parameters(), critic.parameters()):
                        slow.data.copy_(TAU * fast.data + (1 - TAU) * slow.data)

            if step % LOG_PERIOD == 0:
                [loss.item() for loss in losses]
        step += 1
        yield


def prepare():
    warmup, settle = int(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(0)
    np.random.seed(0)
    env = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(turns.TASK))],
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    space, obs_dim = env.single_action_space, env.single_observation_space.shape[0]
    actor = Actor(obs_dim, space)
    critics = [Critic(obs_dim, space.shape[0]) for _ in range(2)]
    loop = training(env, actor, critics, warmup)

    def play(steps):
        begun = time.perf_counter()
        for _ in range(steps):
            next(loop)
        return steps / (time.perf_counter() - begun)

    play(warmup + settle)
    numbers = sum(p.numel() for net in (actor, *critics) for p in net.parameters())
    return {"version": f"torch {torch.__version__}", "parameters": numbers}, play


if __name__ == "__main__":
    turns.serve(prepare)
