//! MuJoCo's log messages: kept for whoever asks, not printed and not written to `MUJOCO_LOG.TXT`.

use std::sync::{Mutex, MutexGuard};

use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};

use crate::ffi::install_log_handler;

/// Distinct messages kept; more only says that nobody is reading them.
const CAPACITY: usize = 64;

/// Something MuJoCo had to say, such as a deprecated attribute in a model or an unstable step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// MuJoCo's text, on one line.
    pub text: String,
    /// How often it came.
    pub count: u64,
}

static MESSAGES: Mutex<Vec<Message>> = Mutex::new(Vec::new());

/// All distinct messages since the last call, oldest first. The first 64 are kept.
pub fn take_messages() -> Vec<Message> {
    std::mem::take(&mut *messages())
}

/// Sends MuJoCo's messages here. Every way into MuJoCo from this crate passes through it first.
pub(crate) fn capture() {
    install_log_handler(keep);
}

fn keep(message: &MjLogMessage) {
    let text = one_line(message.subject());
    if message.level() == MjtLogLevel::mjLOG_ERROR {
        // MuJoCo cannot go on, and mujoco-rs ends the process when this returns: last words.
        eprintln!("MuJoCo: {text}");
    }
    let mut messages = messages();
    if let Some(known) = messages.iter_mut().find(|known| known.text == text) {
        known.count += 1;
    } else if messages.len() < CAPACITY {
        messages.push(Message { text, count: 1 });
    }
}

fn messages() -> MutexGuard<'static, Vec<Message>> {
    // A list of texts cannot be left half changed.
    MESSAGES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `text` with its line breaks and runs of spaces made single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
