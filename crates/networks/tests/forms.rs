//! The forms of the CPU kernels ([`Instructions`]). One test, since a form is a setting of
//! the process.

use networks::{
    Activation, Adam, AdamConfig, Hidden, Instructions, Linear, Mlp, ParamsBuilder, normal,
    squashed_gaussian,
};
use rand::SeedableRng;
use tch::{Device, Kind, Tensor};

/// Five steps of Adam on a loss of a squashed Gaussian whose mean and deviation are a network's
/// outputs; widths and rows are no multiples of any tile. Returns the parameters.
fn five_steps(activation: Activation) -> Tensor {
    let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
    let mut builder = ParamsBuilder::new();
    let mlp =
        Mlp::new(&mut builder, "m", 23, Hidden::new(70, 2, activation), &mut rng, |b, rng| {
            vec![Linear::new(b, "mean", 70, 5, rng), Linear::new(b, "log_std", 70, 5, rng)]
        });
    let mut p = builder.build(Kind::Float, Device::Cpu);
    let config = AdamConfig { learning_rate: 1e-3, beta1: 0.9 };
    let mut adam = Adam::new(config, &p);
    for _ in 0..5 {
        let x = normal(&mut rng, &[300, 23], Device::Cpu);
        let noise = normal(&mut rng, &[300, 5], Device::Cpu);
        let y = mlp.forward(p.trainable(), &x);
        let (action, log_prob) = squashed_gaussian(&y, &noise, (-5.0, 2.0));
        let loss = (&action * &action * 10.0).mean(Kind::Float) + log_prob.mean(Kind::Float);
        let gradient = p.gradient(&loss);
        adam.step(&mut p, &gradient);
    }
    p.flat().copy()
}

#[test]
fn avx512_has_the_bytes_of_avx2_and_portable_code_their_numbers_up_to_rounding() {
    use Activation::{Elu, Gelu, Mish, Relu, Swish};
    for activation in [Relu, Mish, Swish, Gelu, Elu] {
        let run = |form: Instructions| {
            form.set().unwrap();
            assert_eq!(Instructions::in_use(), form);
            (form, five_steps(activation))
        };
        let all: Vec<(Instructions, Tensor)> = Instructions::available().map(run).collect();
        for pair in all.windows(2) {
            let [(slower, a), (faster, b)] = pair else { unreachable!() };
            let worst = (a - b).abs().max().double_value(&[]);
            let limit = if *faster == Instructions::Avx512 { 0.0 } else { 1e-4 };
            assert!(worst <= limit, "{activation:?}: {slower} and {faster}: {worst}");
        }
    }
}
