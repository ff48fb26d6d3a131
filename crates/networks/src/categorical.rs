//! Values as distributions over fixed bins, learned by cross-entropy (C51, Bellemare et
//! al. 2017).

use crate::cpu;
use crate::op::{Op, run};
use crate::pool;
use crate::storage::{empty, values, values_mut};
use tch::{Device, Kind, Tensor};

/// Bins at equal distances, from -`highest` to `highest`.
pub struct Bins {
    /// Their values z: (n).
    values: Tensor,
    highest: f64,
}

/// A cross-entropy with what an update needs of it.
pub struct CrossEntropy {
    /// The sum over the members of the mean over the batch, a scalar.
    pub loss: Tensor,
    /// Its gradient at the logits, (members, B, n).
    pub d_logits: Tensor,
    /// Mean over members and batch of the distributions' means, a scalar.
    pub mean: Tensor,
}

/// The values y_k = r + d (z_k + bonus) of a target, (B) each; those beyond the bins move to
/// the last.
pub struct BinTarget<'a> {
    /// Rewards r.
    pub reward: &'a Tensor,
    /// Discounts d, which are 0 after a terminal step.
    pub discount: &'a Tensor,
    /// What is added to the values of the next state.
    pub bonus: Option<&'a Tensor>,
}

impl Bins {
    /// `count` bins, at least two, on a device.
    pub fn new(count: i64, highest: f64, device: Device) -> Self {
        Self { values: Tensor::linspace(-highest, highest, count, (Kind::Float, device)), highest }
    }

    /// How many they are.
    pub fn count(&self) -> i64 {
        self.values.size()[0]
    }

    /// Means of the distributions softmax(logits): (members, B, n) to (members, B); outside of
    /// any graph.
    pub fn means(&self, logits: &Tensor) -> Tensor {
        run(Means { logits, bins: self })
    }

    /// From the gradient at the means, (members, B), to that at the logits, (members, B, n):
    /// p_k (z_k - mean) times it.
    pub fn means_backward(&self, logits: &Tensor, d_means: &Tensor) -> Tensor {
        run(MeansBackward { logits, d_means, bins: self })
    }

    /// The cross-entropy of softmax(logits) to the target's distribution, which has at y_k the
    /// probability of bin k under `next`, of the member whose mean is the smallest. Each y_k
    /// shares it between the two bins around it, so that the mean stays.
    ///
    /// Logits and `next` (logits, too) are (members, B, n).
    pub fn cross_entropy(
        &self,
        logits: &Tensor,
        next: &Tensor,
        target: &BinTarget,
    ) -> CrossEntropy {
        run(CrossEntropyOf { logits, next, target, bins: self })
    }

    /// The cross-entropy of softmax(logits) to the average over the members of the target's
    /// distributions, less `entropy` times the entropy of softmax(logits) (DIME, Celik et al.
    /// 2025). Arguments as in [`cross_entropy`](Self::cross_entropy); by LibTorch's operations on
    /// every device.
    pub fn average_cross_entropy(
        &self,
        logits: &Tensor,
        next: &Tensor,
        target: &BinTarget,
        entropy: f64,
    ) -> CrossEntropy {
        let _guard = tch::no_grad_guard();
        // With one y for all members, the average of their projections is that of their average.
        let next = next.softmax(-1, None).mean_dim(&[0i64][..], false, None);
        let label = self.project(&next, &self.of_target(target));
        let log_p = logits.log_softmax(-1, None);
        let p = log_p.exp();
        let surprise = (&p * &log_p).sum_dim_intlist(&[-1i64][..], true, None);
        let (rows, kind) = (target.reward.size()[0] as f64, logits.kind());
        let loss = surprise.sum(Kind::Double) * entropy - (&label * &log_p).sum(Kind::Double);
        CrossEntropy {
            loss: (loss / rows).to_kind(kind),
            mean: p.matmul(&self.values).mean(Kind::Double).to_kind(kind),
            d_logits: (&p - label + &p * (log_p - surprise) * entropy) / rows,
        }
    }

    /// The target's values y: (B, n).
    fn of_target(&self, target: &BinTarget) -> Tensor {
        let column = |x: &Tensor| x.unsqueeze(1);
        let next_value = match target.bonus {
            Some(bonus) => &self.values + column(bonus),
            None => self.values.unsqueeze(0),
        };
        column(target.reward) + column(target.discount) * next_value
    }

    /// A distribution (B, n) over the bins of one with `probabilities` (B, n) at y (B, n).
    fn project(&self, probabilities: &Tensor, y: &Tensor) -> Tensor {
        let per_unit = (self.count() - 1) as f64 / (2.0 * self.highest);
        let at = (y.clamp(-self.highest, self.highest) + self.highest) * per_unit;
        let last = (self.count() - 2) as f64;
        // (NaN is bin 0, and the label then.)
        let below = at.floor().clamp(0.0, last).nan_to_num(0.0, None, None);
        let above_share = (at - &below) * probabilities;
        let below = below.to_kind(Kind::Int64);
        probabilities
            .zeros_like()
            .scatter_add_(1, &below, &(probabilities - &above_share))
            .scatter_add_(1, &(below + 1), &above_share)
    }
}

struct Means<'a> {
    logits: &'a Tensor,
    bins: &'a Bins,
}

impl Op for Means<'_> {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.logits, &self.bins.values]
    }

    fn cpu(self) -> Tensor {
        let (logits, size) = (self.logits.contiguous(), self.logits.size());
        let mut out = empty(size[0] as usize, size[1] as usize);
        // SAFETY: `out` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (logits, bins, to) =
            unsafe { (values(&logits), values(&self.bins.values), values_mut(&mut out)) };
        let parts = to.chunks_mut(ROWS).zip(logits.chunks(ROWS * bins.len()));
        let jobs = parts.map(|(to, logits)| move || cpu::means(to, logits, bins));
        pool::run(jobs.collect());
        out
    }

    fn fallback(self) -> Tensor {
        self.logits.softmax(-1, None).matmul(&self.bins.values)
    }
}

struct MeansBackward<'a> {
    logits: &'a Tensor,
    d_means: &'a Tensor,
    bins: &'a Bins,
}

impl Op for MeansBackward<'_> {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.logits, self.d_means, &self.bins.values]
    }

    fn cpu(self) -> Tensor {
        let (logits, d_means) = (self.logits.contiguous(), self.d_means.contiguous());
        let mut out = logits.empty_like();
        // SAFETY: `out` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (logits, d_means, bins, to) = unsafe {
            (values(&logits), values(&d_means), values(&self.bins.values), values_mut(&mut out))
        };
        let numbers = ROWS * bins.len();
        let parts = to.chunks_mut(numbers).zip(logits.chunks(numbers)).zip(d_means.chunks(ROWS));
        let jobs = parts.map(|((to, logits), d)| move || cpu::means_backward(to, logits, d, bins));
        pool::run(jobs.collect());
        out
    }

    fn fallback(self) -> Tensor {
        let p = self.logits.softmax(-1, None);
        let from_mean = &self.bins.values - p.matmul(&self.bins.values).unsqueeze(-1);
        p * from_mean * self.d_means.unsqueeze(-1)
    }
}

struct CrossEntropyOf<'a> {
    logits: &'a Tensor,
    next: &'a Tensor,
    target: &'a BinTarget<'a>,
    bins: &'a Bins,
}

/// Rows that one job works on. A constant, because it decides in which order losses are
/// summed.
const ROWS: usize = 64;

impl Op for CrossEntropyOf<'_> {
    type Output = CrossEntropy;

    fn inputs(&self) -> Vec<&Tensor> {
        let BinTarget { reward, discount, bonus } = *self.target;
        let all = [self.logits, self.next, reward, discount, &self.bins.values];
        all.into_iter().chain(bonus).collect()
    }

    fn cpu(self) -> CrossEntropy {
        let (logits, next) = (self.logits.contiguous(), self.next.contiguous());
        let (reward, discount) =
            (self.target.reward.contiguous(), self.target.discount.contiguous());
        let bonus = self.target.bonus.map(Tensor::contiguous);
        let mut d_logits = logits.empty_like();
        let rows = reward.numel();
        // SAFETY: `d_logits` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (logits, next, reward, discount, bonus, bins, to) = unsafe {
            (
                values(&logits),
                values(&next),
                values(&reward),
                values(&discount),
                bonus.as_ref().map(|bonus| values(bonus)),
                values(&self.bins.values),
                values_mut(&mut d_logits),
            )
        };
        let n = bins.len();
        let of_members = rows * n;
        let logits: Vec<&[f32]> = logits.chunks(of_members).collect();
        let next: Vec<&[f32]> = next.chunks(of_members).collect();
        let mut d_left: Vec<&mut [f32]> = to.chunks_mut(of_members).collect();
        let members = logits.len() as f64;
        let jobs = (0..rows).step_by(ROWS).map(|first| {
            let last = (first + ROWS).min(rows);
            let numbers = first * n..last * n;
            let rows = cpu::Rows {
                logits: logits.iter().map(|all| &all[numbers.clone()]).collect(),
                next: next.iter().map(|all| &all[numbers.clone()]).collect(),
                d_logits: d_left
                    .iter_mut()
                    .filter_map(|d| d.split_off_mut(..numbers.len()))
                    .collect(),
                reward: &reward[first..last],
                discount: &discount[first..last],
                bonus: bonus.map(|bonus| &bonus[first..last]),
                share: 1.0 / rows as f32,
            };
            let bins = cpu::BinsView { values: bins, highest: self.bins.highest as f32 };
            move || cpu::cross_entropy(rows, bins)
        });
        let sums = pool::run(jobs.collect());
        let (loss, means): (Vec<f64>, Vec<f64>) = sums.into_iter().unzip();
        let share = 1.0 / rows as f64;
        CrossEntropy {
            loss: Tensor::from((loss.iter().sum::<f64>() * share) as f32),
            mean: Tensor::from((means.iter().sum::<f64>() * share / members) as f32),
            d_logits,
        }
    }

    fn fallback(self) -> CrossEntropy {
        let (bins, target, kind) = (self.bins, self.target, self.logits.kind());
        let rows = target.reward.size()[0];
        let next = self.next.softmax(-1, None);
        let member = next.matmul(&bins.values).argmin(0, false);
        let at = member.view([1, -1, 1]).expand([1, rows, bins.count()], false);
        let next = next.gather(0, &at, false).squeeze_dim(0);
        let label = bins.project(&next, &bins.of_target(target));
        let log_p = self.logits.log_softmax(-1, None);
        let p = log_p.exp();
        CrossEntropy {
            loss: ((&label * log_p).sum(Kind::Double) / -rows as f64).to_kind(kind),
            mean: p.matmul(&bins.values).mean(Kind::Double).to_kind(kind),
            d_logits: (p - label) / rows as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const HIGHEST: f64 = 5.0;

    fn bins() -> Bins {
        Bins::new(101, HIGHEST, Device::Cpu)
    }

    fn largest(x: &Tensor) -> f64 {
        x.abs().max().double_value(&[])
    }

    #[test]
    fn a_projection_keeps_the_mass_and_inside_of_the_bins_the_mean() {
        let (bins, mut rng) = (bins(), rand_pcg::Pcg64::seed_from_u64(1));
        let p = crate::normal(&mut rng, &[50, 101], Device::Cpu).softmax(-1, None);
        for (widest, inside) in [(1.0, true), (3.0, false)] {
            let y = crate::uniform(&mut rng, &[50, 101], Device::Cpu) * 2.0 - 1.0;
            let y = y * (HIGHEST * widest);
            let label = bins.project(&p, &y);
            assert!(label.min().double_value(&[]) >= 0.0);
            let sum = |x: Tensor| x.sum_dim_intlist(&[1i64][..], false, None);
            assert!(largest(&(sum(label.copy()) - 1.0)) < 1e-5);
            let clipped = sum(&p * y.clamp(-HIGHEST, HIGHEST));
            assert!(largest(&(sum(label * &bins.values) - &clipped)) < 1e-4);
            assert_eq!(largest(&(clipped - sum(&p * &y))) < 1e-4, inside);
        }
    }

    #[test]
    fn values_on_a_bin_stay_there_and_those_between_two_are_shared() {
        let bins = bins();
        let p = Tensor::zeros([1, 101], (Kind::Float, Device::Cpu));
        let _ = p.narrow(1, 50, 1).fill_(1.0);
        let of = |y: f64| bins.project(&p, &Tensor::full([1, 101], y, (Kind::Float, Device::Cpu)));
        for (y, bin) in [(-5.0, 0), (0.0, 50), (5.0, 100), (-7.5, 0), (1e9, 100)] {
            assert!((of(y).double_value(&[0, bin]) - 1.0).abs() < 1e-5, "{y}");
        }
        let between = of(2.525);
        assert!((between.double_value(&[0, 75]) - 0.75).abs() < 1e-4);
        assert!((between.double_value(&[0, 76]) - 0.25).abs() < 1e-4);
    }

    /// Arguments of a cross-entropy: logits, next logits, reward, discount, bonus.
    fn arguments(rows: i64, spread: f64) -> [Tensor; 5] {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
        let mut draw = |shape: &[i64]| crate::normal(&mut rng, shape, Device::Cpu) * spread;
        let (logits, next) = (draw(&[3, rows, 101]), draw(&[3, rows, 101]));
        let discount = draw(&[rows]).gt(-0.5).to_kind(Kind::Float) * 0.97;
        [logits, next, draw(&[rows]), discount, draw(&[rows])]
    }

    #[test]
    fn both_forms_agree() {
        let bins = bins();
        for (rows, spread) in [(1, 1.0), (200, 1.0), (64, 6.0)] {
            let [logits, next, reward, discount, bonus] = arguments(rows, spread);
            for bonus in [None, Some(&bonus)] {
                let target = BinTarget { reward: &reward, discount: &discount, bonus };
                let op = || CrossEntropyOf {
                    logits: &logits,
                    next: &next,
                    target: &target,
                    bins: &bins,
                };
                let (ours, theirs) = (op().cpu(), op().fallback());
                assert!(ours.loss.allclose(&theirs.loss, 1e-5, 1e-6, false));
                assert!(ours.mean.allclose(&theirs.mean, 1e-5, 1e-6, false));
                assert!(ours.d_logits.allclose(&theirs.d_logits, 1e-5, 1e-7, false));
            }
            let means = Means { logits: &logits, bins: &bins }.fallback();
            assert!(bins.means(&logits).allclose(&means, 1e-5, 2e-6, false));
            let d = next.narrow(2, 0, 1).squeeze_dim(2);
            let d_means = &(&d * d.gt(0.0));
            let theirs = MeansBackward { logits: &logits, d_means, bins: &bins }.fallback();
            let ours = bins.means_backward(&logits, d_means);
            // (Where z_k is near the mean, their difference has few digits.)
            assert!(largest(&(ours - &theirs)) <= 1e-5 * largest(&theirs));
        }
    }

    #[test]
    fn the_label_of_an_average_has_the_mean_of_the_members_and_the_gradient_is_autograds() {
        let bins = bins();
        let [logits, next, reward, discount, bonus] = arguments(6, 0.3);
        let discount = discount * 0.5; // so that no y is beyond the bins
        let target = BinTarget { reward: &reward, discount: &discount, bonus: Some(&bonus) };
        let leaf = logits.copy().set_requires_grad(true);
        let log_p = leaf.log_softmax(-1, None);
        let means = next.softmax(-1, None).matmul(&bins.values).mean_dim(&[0i64][..], false, None);
        let y = &reward + &discount * (means + &bonus);
        for entropy in [0.0, 0.5] {
            let ours = bins.average_cross_entropy(&logits, &next, &target, entropy);
            // Without the entropy, the label is what the gradient lacks of the probabilities.
            let plain = bins.average_cross_entropy(&logits, &next, &target, 0.0);
            let label = logits.softmax(-1, None) - &plain.d_logits * 6.0;
            assert!(largest(&(label.get(0) - label.get(2))) < 1e-6, "one label for all members");
            assert!(largest(&(label.get(0).matmul(&bins.values) - &y)) < 1e-4);
            let cost = (log_p.exp() * entropy - label) * &log_p;
            let loss = cost.sum(Kind::Float) / 6.0;
            let exact = Tensor::run_backward(&[&loss], &[&leaf], true, false).remove(0);
            assert!(largest(&(&ours.d_logits - exact)) < 1e-6);
            assert!(largest(&(ours.loss - loss)) < 1e-4);
        }
    }

    #[test]
    fn gradients_are_those_of_autograd_and_what_is_no_number_stays_so() {
        let bins = bins();
        let [logits, next, reward, discount, bonus] = arguments(6, 1.0);
        let leaf = logits.copy().set_requires_grad(true);
        let mean = leaf.softmax(-1, None).matmul(&bins.values);
        let d_means = next.narrow(2, 0, 1).squeeze_dim(2);
        let scalar = (mean * &d_means).sum(Kind::Float);
        let exact = Tensor::run_backward(&[scalar], &[&leaf], false, false).remove(0);
        assert!(largest(&(bins.means_backward(&logits, &d_means) - exact)) < 1e-5);

        let target = BinTarget { reward: &reward, discount: &discount, bonus: Some(&bonus) };
        let ours = bins.cross_entropy(&logits, &next, &target);
        // The label is what the gradient lacks of the probabilities.
        let label = logits.softmax(-1, None) - &ours.d_logits * 6.0;
        let loss = -(label * leaf.log_softmax(-1, None)).sum(Kind::Float) / 6.0;
        let exact = Tensor::run_backward(&[&loss], &[&leaf], false, false).remove(0);
        assert!(largest(&(&ours.d_logits - exact)) < 1e-6);
        assert!(largest(&(ours.loss - loss)) < 1e-4);

        let _ = reward.get(3).fill_(f64::NAN);
        let op = || CrossEntropyOf { logits: &logits, next: &next, target: &target, bins: &bins };
        for form in [op().cpu(), op().fallback()] {
            assert!(form.loss.double_value(&[]).is_nan());
        }
    }
}
