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
///
/// NumPy uses OpenBLAS for the dot product, whose routine for processors with AVX-512 adds
/// products without rounding them first (FMA); the others (AVX2 and older) round them. Which
/// routine runs is OpenBLAS's choice: the one that `OPENBLAS_CORETYPE` names, else the processor's.
pub fn norm(x: &[f64]) -> f64 {
    static FUSED: LazyLock<bool> =
        LazyLock::new(|| fused(std::env::var("OPENBLAS_CORETYPE").ok().as_deref()));
    norm_by(x, *FUSED)
}

/// Whether OpenBLAS's dot product is fused under a value of `OPENBLAS_CORETYPE`.
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

fn norm_by(x: &[f64], fused: bool) -> f64 {
    let add = |sum: f64, x: &f64| if fused { x.mul_add(*x, sum) } else { sum + x * x };
    x.iter().fold(0.0, add).sqrt()
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
