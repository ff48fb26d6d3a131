//! MuJoCo's log messages: collected for the caller instead of going to stderr and to
//! `MUJOCO_LOG.TXT`.

use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};

use crate::ffi::install_log_handler;

/// Largest number of distinct messages kept; reached only if nothing reads them.
const CAPACITY: usize = 64;

/// A warning or error of MuJoCo, for example on a deprecated attribute or an unstable step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// MuJoCo's text, on one line.
    pub text: String,
    /// Number of occurrences.
    pub count: u64,
}

static MESSAGES: Mutex<Vec<Message>> = Mutex::new(Vec::new());

/// All distinct warnings and errors since the last call, oldest first. The first 64 are kept.
pub fn take_messages() -> Vec<Message> {
    std::mem::take(&mut *messages())
}

/// The messages since that call; they stay.
pub(crate) fn messages_so_far() -> Vec<Message> {
    messages().clone()
}

/// Redirects MuJoCo's messages to this module. Called before any other use of MuJoCo.
pub(crate) fn capture() {
    install_log_handler(keep);
}

fn keep(message: &MjLogMessage) {
    if !matches!(message.level(), MjtLogLevel::mjLOG_WARNING | MjtLogLevel::mjLOG_ERROR) {
        return; // such as times of compilation
    }
    let text = one_line(message.subject());
    if message.level() == MjtLogLevel::mjLOG_ERROR {
        // mujoco-rs aborts the process after this call, so the message must be printed here.
        // This is the only output of the crate.
        let _ = writeln!(std::io::stderr(), "MuJoCo: {text}");
    }
    let mut messages = messages();
    if let Some(known) = messages.iter_mut().find(|known| known.text == text) {
        known.count += 1;
    } else if messages.len() < CAPACITY {
        messages.push(Message { text, count: 1 });
    }
}

fn messages() -> MutexGuard<'static, Vec<Message>> {
    // A panic can't leave the list inconsistent.
    MESSAGES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `text` with line breaks and runs of spaces replaced by single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
