//! The vector instructions of the kernels, found at run time.
//!
//! Every kernel has one source. Those that work number by number are compiled once for
//! each form ([`kernel!`]); the matrix products are written for a line of 16 numbers,
//! which each form keeps in its own registers (`cpu/line.rs`).

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A form of the kernels.
///
/// AVX2 and AVX-512 compute the same bytes: each number is the same chain of the same
/// operations, of which AVX-512 does more at a time. The portable form has no fused
/// multiply-add in its products, so that it rounds differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Instructions {
    /// What every processor of the architecture has.
    Portable = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// AVX-512 (F, BW, DQ and VL).
    Avx512 = 3,
}

/// The form in use, as a number; 0 before the first question.
static IN_USE: AtomicU8 = AtomicU8::new(0);

impl Instructions {
    /// All forms, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The forms that this processor can run, the slowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|form| form.is_available())
    }

    fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = || {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            };
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2(),
                Self::Avx512 => avx2() && avx512(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }

    /// The form in use: the fastest that the processor has, unless another was
    /// [set](Self::set).
    #[inline]
    pub fn in_use() -> Self {
        match IN_USE.load(Ordering::Relaxed) {
            0 => Self::choose(),
            1 => Self::Portable,
            2 => Self::Avx2,
            _ => Self::Avx512,
        }
    }

    #[cold]
    fn choose() -> Self {
        let fastest = Self::available().next_back().expect("portable code runs everywhere");
        IN_USE.store(fastest as u8, Ordering::Relaxed);
        fastest
    }

    /// Makes all kernels use this form from now on: a setting of the process.
    ///
    /// # Errors
    /// One line: the processor lacks it.
    pub fn set(self) -> Result<(), String> {
        if !self.is_available() {
            let has: Vec<String> = Self::available().map(|form| form.to_string()).collect();
            return Err(format!("this processor has no {self}; it has {}", has.join(", ")));
        }
        IN_USE.store(self as u8, Ordering::Relaxed);
        Ok(())
    }
}

impl Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Instructions {
    type Err = String;

    /// # Errors
    /// One line with the names that there are.
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|form| form.to_string() == name);
        found.ok_or_else(|| format!("'{name}', expected avx512, avx2 or portable"))
    }
}

/// Compiles a function once for each of [`Instructions`]; a call runs the form in use. With
/// `[zero: Line]` before its arguments, its source has a line of zeros in the form's registers,
/// from which it makes others (`cpu/line.rs`).
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $([$zero:ident: Line])? (
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $output:ty)?
        $body:block
    ) => {
        $(#[$attribute])*
        #[expect(unsafe_code, reason = "instructions that the processor has")]
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $type),*) $(-> $output)? {
            #[inline(always)]
            fn source($($zero: impl Line,)? $($argument: $type),*) $(-> $output)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $output)? {
                $(
                    // SAFETY: the processor has them, else this form is not in use.
                    let $zero = unsafe { <x86::Avx2 as Line>::splat(0.0) };
                )?
                source($($zero,)? $($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $type),*) $(-> $output)? {
                $(
                    // SAFETY: the processor has them, else this form is not in use.
                    let $zero = unsafe { <x86::Avx512 as Line>::splat(0.0) };
                )?
                source($($zero,)? $($argument),*)
            }
            match $crate::instructions::Instructions::in_use() {
                #[cfg(target_arch = "x86_64")]
                $crate::instructions::Instructions::Avx512 => {
                    // SAFETY: a form is in use only if the processor has it.
                    unsafe { avx512($($argument),*) }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::instructions::Instructions::Avx2 => {
                    // SAFETY: a form is in use only if the processor has it.
                    unsafe { avx2($($argument),*) }
                }
                _ => {
                    $(
                        // SAFETY: every processor has what it needs.
                        let $zero = unsafe { <Portable as Line>::splat(0.0) };
                    )?
                    source($($zero,)? $($argument),*)
                }
            }
        }
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_named_and_a_bad_name_says_which_there_are() {
        for form in Instructions::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        let error = "sse9".parse::<Instructions>().unwrap_err();
        assert_eq!(error, "'sse9', expected avx512, avx2 or portable");
    }
}
