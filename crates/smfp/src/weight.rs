//! The weight of the mirror term (section 4).

use crate::config::{SmfpConfig, WeightRule};
use crate::entropy::scalar;
use agent::RunningMean;
use tch::Tensor;

/// Range that a learned lambda is kept in.
const LAMBDA_RANGE: (f64, f64) = (1e-6, 1e6);
/// Smallest norm that a gradient's norm is divided by.
const MIN_NORM: f64 = 1e-12;

/// The factor of L_mirror: lambda, constant or set by a rule.
pub(crate) enum MirrorWeight {
    /// lambda itself.
    Constant(f64),
    /// Equation (7).
    Balanced {
        /// rho.
        share: f64,
        /// Running mean of the ratio of gradients.
        ratio: RunningMean,
    },
    /// Equation (8).
    Budget {
        /// log lambda: (1).
        log_lambda: Tensor,
        /// delta.
        budget: f64,
        /// kappa.
        rate: f64,
    },
}

impl MirrorWeight {
    /// The rule that the configuration names; `like` has the precision and the device.
    pub fn new(config: &SmfpConfig, like: &Tensor) -> Self {
        let lambda = config.objective.lambda;
        match config.mirror.weight {
            WeightRule::Constant => Self::Constant(lambda),
            WeightRule::Balanced => Self::Balanced {
                share: lambda,
                ratio: RunningMean::new(config.objective.q_scale_decay, like.device()),
            },
            WeightRule::Budget => Self::Budget {
                log_lambda: scalar(lambda.ln(), like),
                budget: config.mirror.budget,
                rate: config.mirror.budget_rate,
            },
        }
    }

    /// Balanced: adds the norms of the two gradients of an update. Scalars.
    pub fn balance(&mut self, pathwise: &Tensor, mirror: &Tensor) {
        if let Self::Balanced { ratio, .. } = self {
            ratio.update(&(pathwise / mirror.clamp_min(MIN_NORM)));
        }
    }

    /// Budget: log lambda += kappa min(D / delta - 1, 1), with D the `distance`, a scalar. Without
    /// the minimum, a policy that is many budgets from the lagged one raises lambda in a few
    /// updates so far that it takes thousands to return.
    pub fn spend(&mut self, distance: &Tensor) {
        if let Self::Budget { log_lambda, budget, rate } = self {
            let step = (distance / *budget - 1.0).clamp_max(1.0) * *rate;
            let (low, high) = LAMBDA_RANGE;
            *log_lambda = (&*log_lambda + step).clamp(low.ln(), high.ln());
        }
    }

    /// The weight where it is not a constant: (1).
    pub fn learned(&self) -> Option<Tensor> {
        match self {
            Self::Constant(_) => None,
            Self::Balanced { share, ratio } => Some(ratio.get() * *share),
            Self::Budget { log_lambda, .. } => Some(log_lambda.exp()),
        }
    }

    /// A loss times the weight.
    pub fn times(&self, loss: &Tensor) -> Tensor {
        match self {
            Self::Constant(lambda) => loss * *lambda,
            _ => loss * self.learned().expect("the rule is not Constant"),
        }
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::Balanced { ratio, .. } => ratio.named("mirror_ratio"),
            Self::Budget { log_lambda, .. } => {
                vec![("mirror_log_lambda".to_string(), log_lambda.shallow_clone())]
            }
        }
    }
}
