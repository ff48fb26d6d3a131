//! Lines of 16 numbers in the registers of each form of the kernels.

#![expect(unsafe_code, reason = "intrinsics on pointers: the products' inner loops")]

use super::lanes::{LANES, Lane};
use std::ops::{Add, Mul, Sub};

/// 16 numbers in registers.
///
/// A line exists only where the processor has the form's instructions: whoever makes the first
/// one promises that, so that what is done to lines is safe. All functions are inlined into code
/// that is compiled for those instructions.
pub(super) trait Line:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// 16 times a number.
    ///
    /// # Safety
    /// The processor has the form's instructions.
    unsafe fn splat(number: f32) -> Self;

    /// # Safety
    /// The processor has the form's instructions, and 16 numbers are at the pointer.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// 16 numbers are at the pointer, and nobody else uses them.
    unsafe fn store(self, to: *mut f32);

    /// self + a b: fused, where the form has that.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// 0 where it is not above 0; NaN stays NaN.
    fn relu(self) -> Self;

    /// 0 where other numbers are not above 0.
    fn gate(self, by: Self) -> Self;

    /// Another line: 16 times a number.
    #[inline(always)]
    fn all(self, number: f32) -> Self {
        // SAFETY: there is a line already.
        unsafe { Self::splat(number) }
    }

    /// Another line, read from memory.
    #[inline(always)]
    fn read(self, from: &Lane) -> Self {
        // SAFETY: there is a line already, and here are 16 numbers.
        unsafe { Self::load(from.as_ptr()) }
    }

    /// Writes the line to memory.
    #[inline(always)]
    fn write(self, to: &mut Lane) {
        // SAFETY: here are 16 numbers.
        unsafe { self.store(to.as_mut_ptr()) }
    }
}

macro_rules! operator {
    ($line:ident: $operator:ident, $function:ident, |$a:ident, $b:ident| $result:expr) => {
        impl $operator for $line {
            type Output = Self;

            #[inline(always)]
            fn $function(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $result
            }
        }
    };
}

/// An array, compiled for any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable(Lane);

operator!(Portable: Add, add, |a, b| Self(std::array::from_fn(|l| a.0[l] + b.0[l])));
operator!(Portable: Sub, sub, |a, b| Self(std::array::from_fn(|l| a.0[l] - b.0[l])));
operator!(Portable: Mul, mul, |a, b| Self(std::array::from_fn(|l| a.0[l] * b.0[l])));

impl Line for Portable {
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        Self([number; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<Lane>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Lane>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        self + a * b
    }

    #[inline(always)]
    fn relu(self) -> Self {
        Self(self.0.map(|y| if y <= 0.0 { 0.0 } else { y }))
    }

    #[inline(always)]
    fn gate(self, by: Self) -> Self {
        Self(std::array::from_fn(|l| if by.0[l] > 0.0 { self.0[l] } else { 0.0 }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Add, LANES, Line, Mul, Sub};
    use std::arch::x86_64::*;

    const HALF: usize = LANES / 2;

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    macro_rules! halves {
        ($of:path, $a:expr, $b:expr) => {
            // SAFETY: lines exist only where the processor has AVX2.
            unsafe { Self($of($a.0, $b.0), $of($a.1, $b.1)) }
        };
    }

    operator!(Avx2: Add, add, |a, b| halves!(_mm256_add_ps, a, b));
    operator!(Avx2: Sub, sub, |a, b| halves!(_mm256_sub_ps, a, b));
    operator!(Avx2: Mul, mul, |a, b| halves!(_mm256_mul_ps, a, b));

    // SAFETY (of every block below): the caller's, or that there is a line.
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
        fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }

        #[inline(always)]
        fn relu(self) -> Self {
            unsafe {
                let zero = _mm256_setzero_ps();
                let low = _mm256_cmp_ps::<_CMP_NLE_UQ>(self.0, zero);
                let high = _mm256_cmp_ps::<_CMP_NLE_UQ>(self.1, zero);
                Self(_mm256_and_ps(self.0, low), _mm256_and_ps(self.1, high))
            }
        }

        #[inline(always)]
        fn gate(self, by: Self) -> Self {
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

    macro_rules! whole {
        ($of:path, $a:expr, $b:expr) => {
            // SAFETY: lines exist only where the processor has AVX-512.
            Self(unsafe { $of($a.0, $b.0) })
        };
    }

    operator!(Avx512: Add, add, |a, b| whole!(_mm512_add_ps, a, b));
    operator!(Avx512: Sub, sub, |a, b| whole!(_mm512_sub_ps, a, b));
    operator!(Avx512: Mul, mul, |a, b| whole!(_mm512_mul_ps, a, b));

    // SAFETY (of every block below): the caller's, or that there is a line.
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
        fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn relu(self) -> Self {
            unsafe {
                let open = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(self.0, _mm512_setzero_ps());
                Self(_mm512_maskz_mov_ps(open, self.0))
            }
        }

        #[inline(always)]
        fn gate(self, by: Self) -> Self {
            unsafe {
                let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(by.0, _mm512_setzero_ps());
                Self(_mm512_maskz_mov_ps(open, self.0))
            }
        }
    }

    /// AVX-512, where `add_product` takes pairs of bfloat16 (`pairs.rs`) for factors.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Bf16(Avx512);

    operator!(Bf16: Add, add, |a, b| Self(a.0 + b.0));
    operator!(Bf16: Sub, sub, |a, b| Self(a.0 - b.0));
    operator!(Bf16: Mul, mul, |a, b| Self(a.0 * b.0));

    // SAFETY (of every block below): the caller's, or that there is a line.
    #[expect(clippy::undocumented_unsafe_blocks, reason = "the same for all")]
    impl Line for Bf16 {
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            Self(unsafe { Avx512::splat(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { Avx512::load(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { self.0.store(to) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            let Self(Avx512(sum)) = self;
            // The same bits in another type.
            let of = |line: Self| unsafe { std::mem::transmute::<__m512, __m512bh>(line.0.0) };
            Self(Avx512(unsafe { _mm512_dpbf16_ps(sum, of(a), of(b)) }))
        }

        #[inline(always)]
        fn relu(self) -> Self {
            Self(self.0.relu())
        }

        #[inline(always)]
        fn gate(self, by: Self) -> Self {
            Self(self.0.gate(by.0))
        }
    }
}
