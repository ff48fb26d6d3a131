//! What can be wrong with a file or a call.

use core::fmt;

/// Why a policy was refused or an action not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The file does not begin as a `policy.smfp` does.
    NotAPolicy,
    /// The format's version is one that this crate does not know.
    Version(u32),
    /// The file is shorter or longer than what it describes, or its checksum differs.
    Damaged,
    /// An operation of this index has an unknown code, an operand that is not there, operands of
    /// different lengths, or a result that is too large.
    Operation(usize),
    /// The graph has no operation, hence no action.
    Empty,
    /// The inputs have too many numbers together.
    Inputs,
    /// An argument of `act` has another length than the policy's.
    Length {
        /// `obs`, `z`, `xi` or `actions`.
        name: &'static str,
        /// The policy's length.
        expected: usize,
        /// The argument's length.
        found: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPolicy => write!(f, "not a policy.smfp: it begins with other bytes"),
            Self::Version(found) => {
                write!(f, "format version {found}: this runtime reads {}", crate::file::VERSION)
            }
            Self::Damaged => write!(f, "the file is cut or damaged: export the policy again"),
            Self::Operation(index) => write!(f, "operation {index} of the file is invalid"),
            Self::Empty => write!(f, "the file has no operation"),
            Self::Inputs => write!(f, "the file's inputs are too large"),
            Self::Length { name, expected, found } => {
                write!(f, "{name} has {found} numbers: expected {expected}")
            }
        }
    }
}

impl core::error::Error for Error {}
