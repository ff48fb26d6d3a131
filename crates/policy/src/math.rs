//! Functions in f32 with a product and a sum rounded each.

/// e^x after Cephes' `expf`: x = k ln 2 + r, a polynomial for e^r, then the exponent k. Inputs are
/// clamped to [-87, 88]; a NaN is passed on.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds a small number to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = clip(x, -87.0, 88.0);
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    // ln 2 in two parts; k times the first is exact.
    let r = x - k * 0.693_359_4;
    let r = r - k * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + c;
    }
    let p = p * (r * r) + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

/// tanh x: 1 - 2 / (e^2x + 1), and Cephes' polynomial near 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let far = 1.0 - 2.0 / (exp(clip(2.0 * size, 0.0, 30.0)) + 1.0);
    let far = f32::from_bits(far.to_bits() | (x.to_bits() & 0x8000_0000));
    let s = x * x;
    let mut p = -5.704_988_7e-3;
    for c in [2.063_909e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_8] {
        p = p * s + c;
    }
    let near = p * s * x + x;
    if size < 0.625 { near } else { far }
}

/// x tanh(ln(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2).
#[inline(always)]
pub fn mish(x: f32) -> f32 {
    let e = exp(clip(x, -87.0, 20.0));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

/// 1 / sqrt(x) of a positive, normal x, NaN of a NaN: a first guess from the bits, halving the exponent, and three
/// Newton steps.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    let mut y = f32::from_bits(0x5f37_59df_u32.wrapping_sub(x.to_bits() >> 1));
    for _ in 0..3 {
        y *= 1.5 - 0.5 * x * y * y;
    }
    y
}

/// x within [low, high]; a NaN stays.
#[inline(always)]
pub fn clip(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
