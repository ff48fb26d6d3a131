//! Stochastic MeanFlow Policies (arXiv 2605.21282).
