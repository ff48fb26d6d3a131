//! The precision of the factors of matrix products, in the explicit passes on the CPU.

use crate::instructions::Instructions;
use serde::Deserialize;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the factors of matrix products are rounded to. Sums, and everything else (weights, the
/// optimiser, statistics, nonlinearities), are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not rounded.
    F32,
    /// bfloat16: the exponent of `f32`, and 8 bits. Twice as many products at a time.
    Bf16,
}

/// Whether products are in bfloat16, in the whole process.
static BF16: AtomicBool = AtomicBool::new(false);

impl Precision {
    /// The precision in use: [`Precision::F32`], but [`during`](Self::during) work in another.
    #[inline]
    pub fn in_use() -> Self {
        if BF16.load(Ordering::Relaxed) { Self::Bf16 } else { Self::F32 }
    }

    /// Whether this process can use it.
    ///
    /// # Errors
    /// One line: the processor lacks it, or slower instructions were [chosen](Instructions::set).
    pub fn check(self) -> Result<(), String> {
        if self == Self::Bf16 {
            if !is_available() {
                return Err("this processor has no bfloat16 products (AVX512_BF16)".into());
            }
            let form = Instructions::in_use();
            if form != Instructions::Avx512 {
                return Err(format!("bfloat16 products need the instructions avx512, not {form}"));
            }
        }
        Ok(())
    }

    /// Does some work with explicit passes in this precision, which must pass the
    /// [`check`](Self::check); on all threads that work on it.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restored(bool);
        impl Drop for Restored {
            fn drop(&mut self) {
                BF16.store(self.0, Ordering::Relaxed);
            }
        }
        let _restored = Restored(BF16.swap(self == Self::Bf16, Ordering::Relaxed));
        work()
    }
}

fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
