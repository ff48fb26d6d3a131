//! MuJoCo's batch API (mjbatch.h), raw, on mujoco-rs's types.
