//! Compares streams and sums with recordings of NumPy (`scripts/record_env_fixtures.py numpy`).

mod edition;

use edition::edition;
use std::fs::File;

use envs::numpy::{Generator, SeedSequence, sum_of_squares};
use ndarray::{Array1, Array2, ArrayBase, Dimension, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use sha2::{Digest, Sha256};

fn recorded<T: ReadableElement, D: Dimension>(name: &str) -> ArrayBase<OwnedRepr<T>, D> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/numpy.npz");
    let mut archive = NpzReader::new(File::open(file).unwrap()).unwrap();
    archive.by_name(name).unwrap()
}

/// Asserts that `draw` returns the recorded row for every recorded seed.
fn assert_streams(name: &str, draw: impl Fn(&mut Generator) -> f64) {
    let seeds: Array1<u64> = recorded("seeds");
    let expected: Array2<f64> = recorded(name);
    for (&seed, expected) in seeds.iter().zip(expected.outer_iter()) {
        let mut random = Generator::new(seed);
        for (i, expected) in expected.iter().enumerate() {
            let found = draw(&mut random);
            assert_eq!(found.to_bits(), expected.to_bits(), "{name}, seed {seed}, number {i}");
        }
    }
}

#[test]
fn seed_sequence_mixes_seeds_of_one_and_two_words_as_numpy_does() {
    let seeds: Array1<u64> = recorded("seeds");
    let expected: Array2<u64> = recorded("sequence");
    for (&seed, expected) in seeds.iter().zip(expected.outer_iter()) {
        let found = SeedSequence::new(seed).generate_state::<4>();
        assert_eq!(&found[..], expected.as_slice().unwrap(), "seed {seed}");
    }
}

#[test]
fn pcg64_gives_numpys_raw_bits() {
    let seeds: Array1<u64> = recorded("seeds");
    let expected: Array2<u64> = recorded("bits");
    for (&seed, expected) in seeds.iter().zip(expected.outer_iter()) {
        let mut random = Generator::new(seed);
        assert!(expected.iter().all(|&bits| random.next_u64() == bits), "seed {seed}");
    }
}

#[test]
fn uniform_numbers_are_numpys() {
    assert_streams("uniform", |random| random.uniform(-0.1, 0.1));
}

#[test]
fn normal_numbers_are_numpys() {
    assert_streams("normal", Generator::standard_normal);
}

#[test]
fn a_million_normal_numbers_are_numpys_through_wedges_and_tails() {
    let mut random = Generator::new(7);
    let drawn: Vec<f64> = (0..1_000_000).map(|_| random.standard_normal()).collect();
    let is_tail = |x: &f64| x.abs() > 3.654_152_885_361_009;

    let body: Vec<u8> =
        drawn.iter().filter(|x| !is_tail(x)).flat_map(|x| x.to_le_bytes()).collect();
    let digest: Array1<u8> = recorded("body_sha256");
    assert_eq!(&Sha256::digest(body)[..], digest.as_slice().unwrap());

    let at: Array1<u64> = recorded("tail_at");
    let expected: Array1<f64> = recorded("tail");
    let found: Vec<usize> = (0..drawn.len()).filter(|&i| is_tail(&drawn[i])).collect();
    assert!(found.len() > 100, "only {} draws from the tail", found.len());
    assert!(found.iter().map(|&i| i as u64).eq(at), "draws from the tail are at other positions");
    // These depend on the C library's log1p, whose last bit depends on the machine.
    for (i, expected) in found.into_iter().zip(expected) {
        assert!((drawn[i] - expected).abs() < 2e-15, "{} is not {expected}", drawn[i]);
    }
}

#[test]
fn sums_of_squares_are_numpys_for_every_length() {
    let x: Array1<f64> = recorded("x");
    let x = x.as_slice().unwrap();
    let small: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    let expected: Array1<f64> = recorded("squares_f64");
    let expected_small: Array1<f32> = recorded("squares_f32");
    for n in 1..=x.len() {
        assert_eq!(sum_of_squares(&x[..n]), expected[n - 1], "{n} numbers of f64");
        assert_eq!(sum_of_squares(&small[..n]), expected_small[n - 1], "{n} numbers of f32");
    }
}

#[test]
fn a_generator_continues_from_its_words() {
    let mut random = Generator::new(11);
    random.standard_normal();
    let mut copy = Generator::from_words(random.words());
    assert_eq!(random.next_u64(), copy.next_u64());
}

/// Written by `scripts/record_dm_control.py random_state`, where the C library's logarithm, which
/// normal numbers need, uses FMA.
#[test]
fn the_legacy_stream_is_numpys() {
    use sha2::{Digest, Sha256};
    let exact = edition().is_some_and(|name| name != "no-fma");
    for line in include_str!("fixtures/random_state.txt").lines().skip(1) {
        let (seed, words) = line.split_once(": ").unwrap();
        let (numbers, digest) = words.rsplit_once(' ').unwrap();
        let mut random = envs::numpy::RandomState::new(seed.parse().unwrap());
        let mut found: Vec<f64> = (0..6).map(|_| random.uniform(-2.0, 3.0)).collect();
        found.extend((0..7).map(|_| random.standard_normal()));
        found.extend((0..4).map(|_| random.next_f64()));
        let numbers: Vec<f64> = numbers
            .split(' ')
            .map(|word| f64::from_bits(u64::from_str_radix(word, 16).unwrap()))
            .collect();
        assert_eq!(found.len(), numbers.len());
        for (i, (found, expected)) in found.iter().zip(&numbers).enumerate() {
            let margin = if exact || !(6..13).contains(&i) { 0.0 } else { 1e-14 };
            assert!((found - expected).abs() <= margin, "seed {seed}, number {i}: {found}");
        }
        if !exact {
            continue;
        }

        let mut hash = Sha256::new();
        for i in 0..3000 {
            if i == 1001 {
                // In the middle of a pair of normal numbers.
                random = envs::numpy::RandomState::from_bytes(&random.to_bytes()).unwrap();
            }
            hash.update(random.standard_normal().to_le_bytes());
            hash.update(random.next_f64().to_le_bytes());
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "seed {seed}");
    }
    assert!(envs::numpy::RandomState::from_bytes(&[0; 100]).is_none());
}
