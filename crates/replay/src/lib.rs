//! Replay buffer: a ring of transitions with uniform sampling.
