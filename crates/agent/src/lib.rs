//! What off-policy algorithms share: the Agent trait, batches, critics learning.
