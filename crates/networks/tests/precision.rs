//! Products in bfloat16 ([`Precision`]). One test, since it holds for the whole process.

use networks::{Activation, Hidden, Linear, Mlp, ParamsBuilder, Precision, normal};
use rand::SeedableRng;
use tch::{Device, Kind, Tensor};

const WIDTHS: [i64; 4] = [23, 70, 70, 5];
const ROWS: i64 = 300;

/// What a factor is rounded to, by LibTorch.
fn rounded(x: &Tensor) -> Tensor {
    x.to_kind(Kind::BFloat16).to_kind(Kind::Double)
}

/// The outputs of a ReLU network, and its gradient for that of the outputs, in `f64`, where both
/// factors of every product are rounded.
fn reference(p: &[Tensor], x: &Tensor, d_y: &Tensor) -> (Tensor, Vec<Tensor>) {
    let layers = p.chunks_exact(2);
    let mut inputs = vec![x.to_kind(Kind::Double)];
    for (i, layer) in layers.clone().enumerate() {
        let y = rounded(&inputs[i]).matmul(&rounded(&layer[0]).tr()) + &layer[1];
        inputs.push(if i + 2 < WIDTHS.len() { y.relu() } else { y });
    }
    let y = inputs.pop().unwrap();
    let mut d = d_y.to_kind(Kind::Double);
    let mut gradients = Vec::new();
    for (layer, x) in layers.zip(&inputs).rev() {
        gradients.push(d.sum_dim_intlist([0i64].as_slice(), false, Kind::Double));
        gradients.push(rounded(&d).tr().matmul(&rounded(x)));
        d = rounded(&d).matmul(&rounded(&layer[0])) * x.gt(0.0);
    }
    gradients.reverse();
    (y, gradients)
}

#[test]
fn products_in_bf16_are_those_of_rounded_factors_summed_in_f32() {
    if Precision::Bf16.check().is_err() {
        return; // a processor without them
    }
    let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
    let mut builder = ParamsBuilder::new();
    let [inputs, width, _, outputs] = WIDTHS;
    let mlp = Mlp::new(
        &mut builder,
        "m",
        inputs,
        Hidden::new(width, 2, Activation::Relu),
        &mut rng,
        |b, rng| vec![Linear::new(b, "y", width, outputs, rng)],
    );
    let p = builder.build(Kind::Float, Device::Cpu);
    let x = normal(&mut rng, &[ROWS, inputs], Device::Cpu);
    let d_y = normal(&mut rng, &[ROWS, outputs], Device::Cpu);
    let run = || {
        let y = mlp.forward(p.trainable(), &x);
        let gradient = p.gradient(&(&y * &d_y).sum(Kind::Float));
        (y.detach(), gradient)
    };
    let (y, gradient) = Precision::Bf16.during(run);
    let (exact_y, exact) = reference(p.frozen(), &x, &d_y);
    let exact = Tensor::cat(&exact.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
    // A hidden number may round to the other neighbour, 2^-8 away, where the sums differ in
    // their last bit: few do.
    let far = |ours: &Tensor, exact: &Tensor| {
        let scale = exact.abs().max().double_value(&[]);
        let error = (ours.to_kind(Kind::Double) - exact).abs() / scale;
        [error.mean(Kind::Double).double_value(&[]), error.max().double_value(&[])]
    };
    for (what, [mean, most]) in [("y", far(&y, &exact_y)), ("gradient", far(&gradient, &exact))] {
        assert!(mean < 1e-5 && most < 2e-3, "{what}: {mean:e} on average, at most {most:e}");
    }

    let (plain, _) = run();
    let [mean, _] = far(&y, &plain.to_kind(Kind::Double));
    assert!(mean > 1e-4, "not rounded at all: {mean:e}");
}
