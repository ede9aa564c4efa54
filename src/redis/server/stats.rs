//! What happened so far, for INFO.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::command::Command;
use crate::reply::Reply;

/// Kinds of errors that are counted apart. Codes come from scripts too, which can make up any number of them.
const ERRORS_MAX: usize = 128;

/// Counts since the start or since CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Connections that were closed because they took up too much.
    pub(crate) cut_off: u64,
    pub(crate) commands: u64,
    pub(crate) expired: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) error_replies: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    by_command: HashMap<&'static str, Calls>,
    by_error: BTreeMap<String, u64>,
    /// Commands at the last ticks, for the rate.
    ticks: [(i64, u64); TICKS],
}

/// Ticks of a tenth of a second over which the rate of commands is told.
const TICKS: usize = 16;

/// What one command was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) calls: u64,
    /// Time that those took which came from a socket.
    pub(crate) us: u64,
    /// Not even begun: wrong number of arguments, not allowed now.
    pub(crate) rejected: u64,
    /// Answered with an error.
    pub(crate) failed: u64,
}

impl Stats {
    /// `command` was run and answered `reply`.
    pub(crate) fn ran(&mut self, command: &Command, reply: &Reply) {
        self.commands += 1;
        let calls = self.by_command.entry(command.name).or_default();
        calls.calls += 1;
        if let Reply::Error(text) = reply {
            calls.failed += 1;
            self.error(text);
        }
    }

    /// `command`, if it is one, was not allowed to run, and `reply` says why.
    pub(crate) fn refused(&mut self, command: Option<&Command>, reply: &Reply) {
        if let Some(command) = command {
            self.by_command.entry(command.name).or_default().rejected += 1;
        }
        if let Reply::Error(text) = reply {
            self.error(text);
        }
    }

    /// `command` came from a socket and took so long.
    pub(crate) fn took(&mut self, command: &str, us: i64) {
        if let Some(calls) = self.by_command.get_mut(command) {
            calls.us += us.max(0) as u64;
        }
    }

    fn error(&mut self, text: &str) {
        self.error_replies += 1;
        let code = text.split(' ').next().unwrap_or_default();
        if let Some(count) = self.by_error.get_mut(code) {
            *count += 1;
        } else if self.by_error.len() < ERRORS_MAX {
            self.by_error.insert(code.chars().take(64).collect(), 1);
        }
    }

    /// A tenth of a second is over.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.ticks.rotate_left(1);
        self.ticks[TICKS - 1] = (now_ms, self.commands);
    }

    /// Commands per second over the last ticks.
    pub(crate) fn rate(&self) -> u64 {
        let (first, last) = (self.ticks[0], self.ticks[TICKS - 1]);
        let ms = (last.0 - first.0).max(1) as u64;
        if first.0 == 0 { 0 } else { last.1.saturating_sub(first.1) * 1000 / ms }
    }

    /// Begins anew (CONFIG RESETSTAT).
    pub(crate) fn reset(&mut self) {
        *self = Stats::default();
    }

    /// By command, in the order of their names.
    pub(crate) fn commands(&self) -> Vec<(&'static str, Calls)> {
        let mut all: Vec<_> = self.by_command.iter().map(|(name, calls)| (*name, *calls)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// By the code of the error.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_error.iter().map(|(code, count)| (code.as_str(), *count))
    }
}
