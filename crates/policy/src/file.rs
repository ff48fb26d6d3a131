//! `policy.smfp`: magic, version, inputs, tensors, operations, CRC-32; all numbers 32 bits,
//! little-endian.

use crate::{Error, Graph, Op};
use alloc::vec::Vec;

/// The first eight bytes.
const MAGIC: [u8; 8] = *b"SMFPGRPH";
/// The format's version.
pub const VERSION: u32 = 1;

impl Graph {
    /// The content of a `policy.smfp`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut put = |n: u32| out.extend(n.to_le_bytes());
        put(VERSION);
        self.inputs.iter().for_each(|&n| put(n));
        put(self.tensors.len() as u32);
        for tensor in &self.tensors {
            put(tensor.len() as u32);
            tensor.iter().for_each(|x| put(x.to_bits()));
        }
        put(self.ops.len() as u32);
        for op in &self.ops {
            words(op).iter().for_each(|&n| put(n));
        }
        let checksum = crc32(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads the content of a `policy.smfp`.
    ///
    /// # Errors
    /// Other magic bytes, version, length or checksum, or an invalid operation.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::NotAPolicy)?;
        let mut reader = Reader(rest);
        let version = reader.next()?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(Error::Damaged)?;
        if crc32(content) != u32::from_le_bytes(*checksum) {
            return Err(Error::Damaged);
        }
        reader.0 = reader.0.get(..reader.0.len() - 4).ok_or(Error::Damaged)?;
        let mut graph = Self::default();
        for n in &mut graph.inputs {
            *n = reader.next()?;
        }
        for _ in 0..reader.next()? {
            let n = reader.next()? as usize;
            // Nothing is allocated before the file is known to be long enough.
            if n > reader.0.len() / 4 {
                return Err(Error::Damaged);
            }
            let tensor: Result<_, _> = (0..n).map(|_| reader.next().map(f32::from_bits)).collect();
            graph.tensors.push(tensor?);
        }
        for index in 0..reader.next()? {
            let op = [reader.next()?, reader.next()?, reader.next()?, reader.next()?];
            graph.ops.push(operation(op).ok_or(Error::Operation(index as usize))?);
        }
        if !reader.0.is_empty() {
            return Err(Error::Damaged);
        }
        graph.lengths()?;
        Ok(graph)
    }
}

/// An operation in the file: its code and three operands, 0 where it has fewer.
fn words(op: &Op) -> [u32; 4] {
    match *op {
        Op::Constant(t) => [0, t, 0, 0],
        Op::Affine(x, w, b) => [1, x, w, b],
        Op::Concat(a, b) => [2, a, b, 0],
        Op::Slice(x, start, n) => [3, x, start, n],
        Op::Add(a, b) => [4, a, b, 0],
        Op::Sub(a, b) => [5, a, b, 0],
        Op::Mul(a, b) => [6, a, b, 0],
        Op::Clip(x, low, high) => [7, x, low.to_bits(), high.to_bits()],
        Op::Exp(x) => [8, x, 0, 0],
        Op::Tanh(x) => [9, x, 0, 0],
        Op::Relu(x) => [10, x, 0, 0],
        Op::Mish(x) => [11, x, 0, 0],
        Op::LayerNorm(x, w, b) => [12, x, w, b],
    }
}

/// The inverse of [`words`]; None for an unknown code or an operand too many.
fn operation(file: [u32; 4]) -> Option<Op> {
    let [code, a, b, c] = file;
    let op = match code {
        0 => Op::Constant(a),
        1 => Op::Affine(a, b, c),
        2 => Op::Concat(a, b),
        3 => Op::Slice(a, b, c),
        4 => Op::Add(a, b),
        5 => Op::Sub(a, b),
        6 => Op::Mul(a, b),
        7 => Op::Clip(a, f32::from_bits(b), f32::from_bits(c)),
        8 => Op::Exp(a),
        9 => Op::Tanh(a),
        10 => Op::Relu(a),
        11 => Op::Mish(a),
        12 => Op::LayerNorm(a, b, c),
        _ => return None,
    };
    (words(&op) == file).then_some(op)
}

/// The bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Result<u32, Error> {
        let (word, rest) = self.0.split_first_chunk::<4>().ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*word))
    }
}

/// CRC-32 (IEEE 802.3), as zlib computes it.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c, &b| TABLE[((c ^ u32::from(b)) & 255) as usize] ^ (c >> 8))
}
