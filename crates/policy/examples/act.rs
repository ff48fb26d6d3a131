//! Acts with a policy on inputs from stdin, each an observation, z and xi as little-endian `f32`,
//! and writes the actions to stdout likewise: `act policy.smfp < inputs > actions`.
//! `scripts/check_export.py` compares the bits of several processors with it.

use policy::Policy;
use std::error::Error;
use std::io::{self, Read, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("expected the path of a policy.smfp")?;
    let mut policy = Policy::from_bytes(&std::fs::read(path)?)?;
    let [obs, z, xi, act] = policy.sizes();
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<4>();
    let inputs: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let mut actions = vec![0.0; act];
    for input in inputs.chunks_exact(obs + z + xi) {
        let (obs, noise) = input.split_at(obs);
        let (z, xi) = noise.split_at(z);
        policy.act(obs, Some(z), Some(xi), &mut actions)?;
        let out: Vec<u8> = actions.iter().flat_map(|x| x.to_le_bytes()).collect();
        io::stdout().write_all(&out)?;
    }
    Ok(())
}
