//! Normal numbers by the ziggurat method (`random_standard_normal` of
//! `numpy/random/src/distributions/distributions.c`).

#[path = "ziggurat_tables.rs"]
mod tables;

use super::Generator;

/// Start of the tail, and its inverse, as in NumPy.
const TAIL: f64 = 3.654_152_885_361_009;
const TAIL_INVERSE: f64 = 0.273_661_237_329_758_3;

pub(super) fn standard_normal(random: &mut Generator) -> f64 {
    loop {
        let bits = random.next_u64();
        let layer = (bits & 0xff) as usize;
        let negative = bits >> 8 & 1 == 1;
        let mantissa = bits >> 9 & 0x000f_ffff_ffff_ffff;
        let magnitude = mantissa as f64 * f64::from_bits(tables::WIDTH[layer]);
        let x = if negative { -magnitude } else { magnitude };

        if mantissa < tables::THRESHOLD[layer] {
            return x; // 99.3 % of the draws return here
        }
        if layer == 0 {
            let beyond = tail(random);
            // As in NumPy, the sign comes from another bit here.
            return if mantissa >> 8 & 1 == 1 { -beyond } else { beyond };
        }
        let [upper, lower] = [layer - 1, layer].map(|at| f64::from_bits(tables::HEIGHT[at]));
        if (upper - lower) * random.next_f64() + lower < (-0.5 * x * x).exp() {
            return x;
        }
    }
}

/// A number beyond [`TAIL`], by Marsaglia's method.
fn tail(random: &mut Generator) -> f64 {
    loop {
        // log1p(-u), not log(u): a draw of exactly zero must not give an infinity.
        let x = -TAIL_INVERSE * (-random.next_f64()).ln_1p();
        let y = -(-random.next_f64()).ln_1p();
        if y + y > x * x {
            return TAIL + x;
        }
    }
}
