//! Lines of 16 numbers in the registers of each form of the kernels.

#![expect(unsafe_code, reason = "intrinsics on pointers: the products' inner loops")]

use super::lanes::{LANES, Lane};

/// 16 numbers in registers.
///
/// # Safety
/// Of every function: the processor has the form's instructions, and 16 numbers are at
/// the pointer. The functions are inlined into code that is compiled for those
/// instructions.
pub(super) trait Line: Copy {
    unsafe fn splat(number: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn times(self, by: Self) -> Self;
    /// 0 where it is below 0; NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// 0 where other numbers are not above 0.
    unsafe fn gate(self, by: Self) -> Self;
}

impl Line for Lane {
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        [number; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|l| self[l] + a[l] * b[l])
    }

    #[inline(always)]
    unsafe fn times(self, by: Self) -> Self {
        std::array::from_fn(|l| self[l] * by[l])
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        self.map(|y| if y < 0.0 { 0.0 } else { y })
    }

    #[inline(always)]
    unsafe fn gate(self, by: Self) -> Self {
        std::array::from_fn(|l| if by[l] > 0.0 { self[l] } else { 0.0 })
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{LANES, Line};
    use std::arch::x86_64::*;

    const HALF: usize = LANES / 2;

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    // SAFETY (of every block below): the caller's.
    #[expect(clippy::undocumented_unsafe_blocks, reason = "the same for all")]
    impl Line for Avx2 {
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            let half = unsafe { _mm256_set1_ps(number) };
            Self(half, half)
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(HALF))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(HALF), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }

        #[inline(always)]
        unsafe fn times(self, by: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, by.0), _mm256_mul_ps(self.1, by.1)) }
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            unsafe {
                // In this order NaN stays NaN.
                let zero = _mm256_setzero_ps();
                Self(_mm256_max_ps(zero, self.0), _mm256_max_ps(zero, self.1))
            }
        }

        #[inline(always)]
        unsafe fn gate(self, by: Self) -> Self {
            unsafe {
                let zero = _mm256_setzero_ps();
                let low = _mm256_cmp_ps::<_CMP_GT_OQ>(by.0, zero);
                let high = _mm256_cmp_ps::<_CMP_GT_OQ>(by.1, zero);
                Self(_mm256_and_ps(self.0, low), _mm256_and_ps(self.1, high))
            }
        }
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY (of every block below): the caller's.
    #[expect(clippy::undocumented_unsafe_blocks, reason = "the same for all")]
    impl Line for Avx512 {
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn times(self, by: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, by.0) })
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // In this order NaN stays NaN.
            Self(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
        }

        #[inline(always)]
        unsafe fn gate(self, by: Self) -> Self {
            unsafe {
                let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(by.0, _mm512_setzero_ps());
                Self(_mm512_maskz_mov_ps(open, self.0))
            }
        }
    }
}
