//! Functions that NumPy delegates to libraries, with the rounding of those libraries.

use std::hint::black_box;
use std::sync::LazyLock;

/// `x ** 2` of a `numpy.float64`: the C library's `pow`, which is not always `x * x` in the last
/// bit. (NumPy's `square` is `x * x`.)
pub fn squared(x: f64) -> f64 {
    // `black_box`, or the compiler would replace the call by a multiplication.
    x.powf(black_box(2.0))
}

/// `numpy.linalg.norm(x)` of a short vector.
pub fn norm(x: &[f64]) -> f64 {
    norm_by(x, *FUSED)
}

/// `v.dot(matrix)` of a vector (3) and a matrix (3 x 3, by rows).
pub fn vector_times_matrix(v: &[f64], matrix: &[f64]) -> [f64; 3] {
    product_by(v, matrix, *FUSED)
}

/// Whether OpenBLAS, which NumPy uses for products of vectors and matrices, adds products without
/// rounding them first (FMA), as its routines for processors with AVX-512 do; the others (AVX2
/// and older) round them. Which routine runs is OpenBLAS's choice: the one that
/// `OPENBLAS_CORETYPE` names, else the processor's.
static FUSED: LazyLock<bool> =
    LazyLock::new(|| fused(std::env::var("OPENBLAS_CORETYPE").ok().as_deref()));

fn fused(core_type: Option<&str>) -> bool {
    const AVX2_OR_OLDER: [&str; 5] = ["haswell", "zen", "sandybridge", "nehalem", "prescott"];
    match core_type.map(str::to_lowercase).as_deref() {
        Some("skylakex" | "cooperlake" | "sapphirerapids") => true,
        Some(name) if AVX2_OR_OLDER.contains(&name) => false,
        _ => has_avx512(),
    }
}

fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// `sum + x * y`.
fn add_product(sum: f64, x: f64, y: f64, fused: bool) -> f64 {
    if fused { x.mul_add(y, sum) } else { sum + x * y }
}

fn norm_by(x: &[f64], fused: bool) -> f64 {
    x.iter().fold(0.0, |sum, x| add_product(sum, *x, *x, fused)).sqrt()
}

fn product_by(v: &[f64], matrix: &[f64], fused: bool) -> [f64; 3] {
    std::array::from_fn(|i| {
        let sum = add_product(v[0] * matrix[i], v[1], matrix[3 + i], fused);
        add_product(sum, v[2], matrix[6 + i], fused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded under `OPENBLAS_CORETYPE=Haswell` and `OPENBLAS_CORETYPE=SkylakeX`.
    #[test]
    fn norms_are_those_of_both_openblas_routines() {
        let recorded = [
            (
                [-0.1830535891600027, -0.9094496121951097, -0.9024845785456639],
                1.2942509911678413,
                1.294250991167841,
            ),
            (
                [0.014136277846782619, 0.012770002843141892, -0.527611743208273],
                0.527955546324923,
                0.5279555463249229,
            ),
            (
                [0.2818802829626219, -0.7858210077254271, 0.38444454928965976],
                0.9191130298196316,
                0.9191130298196317,
            ),
            (
                [0.6176876180693398, -0.6942699537086543, 0.4257805251331368],
                1.0221730859895704,
                1.0221730859895701,
            ),
        ];
        for (x, haswell, skylake_x) in recorded {
            assert_eq!(norm_by(&x, false), haswell, "{x:?}");
            assert_eq!(norm_by(&x, true), skylake_x, "{x:?}");
        }
    }

    /// Recorded as the norms; the last number of the result differs.
    #[test]
    fn products_with_a_matrix_are_those_of_both_openblas_routines() {
        let recorded = [
            (
                [0.0012301533574825742, 0.2987455375084699, -0.2741378553622176],
                [
                    [-0.8905918387572742, -0.45467078517172255, -0.9916465549964624],
                    [0.060143602597438485, 1.3402152455545335, -0.49220651855132963],
                    [-0.6204748998199404, 0.4898420501851982, 0.35688700816006075],
                ],
                [0.18696772668779899, 0.2655397600133048],
                [-0.24610061731249183, -0.24610061731249186],
            ),
            (
                [0.15675108662422516, -0.18693094462995438, -2.516759710820513],
                [
                    [-0.5386928958466366, -0.048500945401071985, 0.11330898600330756],
                    [-1.5301357655053935, -0.47775327603393064, -0.9785190780566395],
                    [-0.8088372394255993, 1.0608986233860787, -0.8075346753318965],
                ],
                [2.237238004074924, -2.58832261730787],
                [2.2330475382457085, 2.233047538245708],
            ),
        ];
        for (v, matrix, [x, y], [haswell, skylake_x]) in recorded {
            assert_eq!(product_by(&v, matrix.as_flattened(), false), [x, y, haswell]);
            assert_eq!(product_by(&v, matrix.as_flattened(), true), [x, y, skylake_x]);
        }
    }

    #[test]
    fn the_routine_is_the_one_that_openblas_is_told_to_use() {
        assert!(fused(Some("SkylakeX")) && !fused(Some("Haswell")) && !fused(Some("Zen")));
        assert_eq!((fused(None), fused(Some("no such core"))), (has_avx512(), has_avx512()));
    }

    /// Recorded: `numpy.float64(x) ** 2` where it is not `x * x`.
    #[test]
    fn a_power_is_the_c_librarys() {
        let recorded = [
            (-1.3275170599102342, 1.7623015443527124),
            (-1.849539948621794, 3.420798021547909),
            (2.892812086183489, 8.368361765969269),
        ];
        for (x, expected) in recorded {
            assert_ne!(x * x, expected);
            assert_eq!(squared(x), expected, "{x:?}");
        }
    }
}
