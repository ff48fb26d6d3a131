//! Gymnasium's MuJoCo tasks, stepped natively, bit for bit.
