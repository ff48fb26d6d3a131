//! Which of the recorded variants of the C library and of OpenBLAS this machine has.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// Bytes in hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the values of the C library's functions on a grid.
fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for k in 1..=20_000 {
        let x = f64::from(k) * 0.00078539;
        let y = x / 16.0;
        let values = [
            [x.sin(), x.cos(), x.tan(), x.exp(), x.ln(), x.ln_1p()],
            [y.asin(), y.acos(), x.atan2(3.0), x.powf(y), x.tanh(), 0.0],
        ];
        let values = &values.as_flattened()[..11];
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hex(hash.finalize())
}

/// The words of a file of digests, line by line.
pub fn digests<const N: usize>(text: &'static str) -> Vec<[&'static str; N]> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().unwrap()).collect()
}

/// Whether products are those of OpenBLAS's routines for AVX-512: the last bit of this norm differs.
fn has_fused_norm() -> bool {
    let x = [-0.1830535891600027, -0.9094496121951097, -0.9024845785456639];
    envs::numpy::norm(&x) == 1.294250991167841
}

/// The recorded variant of the libraries that this machine has, if any.
pub fn edition() -> Option<&'static str> {
    static EDITION: LazyLock<Option<&str>> = LazyLock::new(|| {
        let found = fingerprint();
        let lines: Vec<[&str; 5]> = digests(include_str!("../fixtures/digests.txt"));
        let known = lines.iter().find(|line| line[1] == "fingerprint" && line[4] == found);
        match known.map(|line| line[0]) {
            Some("fma") if has_fused_norm() => Some("fma-avx512"),
            None => {
                #[allow(clippy::print_stderr, reason = "says what was not tested")]
                {
                    eprintln!("this C library is unknown to the fixtures (fingerprint {found})");
                }
                None
            }
            known => known,
        }
    });
    *EDITION
}
