//! LibTorch-backed networks: MLPs, critics, optimiser, tangents.
