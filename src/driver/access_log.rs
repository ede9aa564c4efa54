//! The access log: one line of JSON for each request that was sampled, written by a thread of its own.
//!
//! A request never waits for it: lines go through a bounded queue, and where that is full they are dropped and counted
//! (`plimsoll_access_log_dropped_total`). A file that was moved away, or deleted, is opened anew within a second, so that
//! logrotate needs neither `copytruncate` nor a signal (with `copytruncate` it works as well: lines are appended).

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use metrics::counter;
use serde::{Serialize, Serializer};
use tracing::warn;

/// Lines that may wait to be written: a tenth of a second at a hundred thousand requests a second, and some megabytes at most.
const WAITING: usize = 8192;
const MILLION: u64 = 1_000_000;
/// How often it is seen whether the file is still the one at its path.
const LOOK: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLogTarget {
    /// Among the other log lines, as a line of its own.
    Stderr,
    /// To the end of a file, which is made if it is not there.
    File(PathBuf),
}

/// The access log could not be opened. Nothing is logged then.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the access log `{}`: {source}; check its folder and permissions", path.display())]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
}

/// An access log that is open. Clones write to the same.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

struct Inner {
    target: AccessLogTarget,
    /// Lines per million requests.
    share: u64,
    requests: AtomicU64,
    to: SyncSender<Entry>,
}

enum Entry {
    Line(Box<Line>),
    /// Answers once all before it is written.
    Flush(SyncSender<()>),
}

/// What is said of one request. Absent fields were never known.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    /// When it came, by the wall clock: ms since 1970.
    #[serde(rename = "time", serialize_with = "as_rfc3339")]
    pub(crate) time_ms: u64,
    pub(crate) protocol: &'static str,
    pub(crate) method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// The pod whose answer it got, or that it was sent to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_ms: Option<f64>,
    /// How long it was expected to wait at its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait_ms: Option<f64>,
    /// How long it was at this node before it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queued_ms: Option<f64>,
    pub(crate) duration_ms: f64,
    pub(crate) outcome: &'static str,
    /// gRPC's code, or HTTP's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<i32>,
    pub(crate) bytes_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_out: Option<u64>,
}

impl AccessLog {
    /// Opens a log of every request's line, or of a share of them, evenly spread: at 0.1 of each tenth one.
    ///
    /// # Errors
    /// [`AccessLogError`] where the file cannot be opened.
    pub fn open(target: AccessLogTarget, share: f64) -> Result<AccessLog, AccessLogError> {
        let out = Out::open(&target)?;
        let (to, lines) = sync_channel(WAITING);
        let failed = |source| AccessLogError { path: name_of(&target).to_owned(), source };
        std::thread::Builder::new().name("access-log".into()).spawn(move || out.write_all(&lines)).map_err(failed)?;
        let share = (share.clamp(0.0, 1.0) * MILLION as f64).round() as u64;
        Ok(AccessLog(Arc::new(Inner { target, share, requests: AtomicU64::new(0), to })))
    }

    /// Whether the next request is one of those that get a line.
    pub(crate) fn wants(&self) -> bool {
        // 2^64 is reached after half a year at a million requests a second; then one line too many is written.
        let before = self.0.requests.fetch_add(1, Relaxed).wrapping_mul(self.0.share);
        before.wrapping_add(self.0.share) / MILLION > before / MILLION
    }

    pub(crate) fn write(&self, line: Box<Line>) {
        if self.0.to.try_send(Entry::Line(line)).is_err() {
            counter!("plimsoll_access_log_dropped_total").increment(1);
        }
    }

    /// Waits until what was said before is written, `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.0.to.try_send(Entry::Flush(done)).is_ok() {
            // Late, or gone: nobody is left to tell.
            let _ = written.recv_timeout(patience);
        }
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("target", &self.0.target).field("share", &self.0.share).finish()
    }
}

impl PartialEq for AccessLog {
    fn eq(&self, other: &AccessLog) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The writing end.
struct Out {
    target: AccessLogTarget,
    writer: Box<dyn Write + Send>,
    /// Device and inode of the open file.
    file: Option<(u64, u64)>,
    /// Whether the last write failed: said once, until one goes well again.
    fails: bool,
}

impl Out {
    fn open(target: &AccessLogTarget) -> Result<Out, AccessLogError> {
        let (writer, file) =
            opened(target).map_err(|source| AccessLogError { path: name_of(target).to_owned(), source })?;
        Ok(Out { target: target.clone(), writer, file, fails: false })
    }

    fn write_all(mut self, lines: &Receiver<Entry>) {
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(entry) => {
                    self.take(entry);
                    // What waits goes out in one piece.
                    for entry in lines.try_iter().take(WAITING) {
                        self.take(entry);
                    }
                    self.settle();
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Line(line) => {
                let written = serde_json::to_writer(&mut self.writer, &line).map_err(io::Error::from);
                let written = written.and_then(|()| self.writer.write_all(b"\n"));
                self.judge(written);
            }
            Entry::Flush(done) => {
                self.settle();
                // Who asked may have gone.
                let _ = done.try_send(());
            }
        }
    }

    fn settle(&mut self) {
        let flushed = self.writer.flush();
        self.judge(flushed);
        self.look();
    }

    fn judge(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.fails = false,
            Err(error) => {
                counter!("plimsoll_access_log_dropped_total").increment(1);
                if !std::mem::replace(&mut self.fails, true) {
                    warn!("cannot write the access log `{}`: {error}; lines are lost", name_of(&self.target).display());
                }
            }
        }
    }

    /// Opens the file anew where another one, or none, is at its path.
    fn look(&mut self) {
        let AccessLogTarget::File(path) = &self.target else { return };
        let there = std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        if there == self.file && there.is_some() {
            return;
        }
        match opened(&self.target) {
            Ok((writer, file)) => (self.writer, self.file) = (writer, file),
            Err(error) => self.judge(Err(error)),
        }
    }
}

type Opened = (Box<dyn Write + Send>, Option<(u64, u64)>);

fn opened(target: &AccessLogTarget) -> io::Result<Opened> {
    match target {
        AccessLogTarget::Stderr => Ok((Box::new(BufWriter::new(io::stderr())), None)),
        AccessLogTarget::File(path) => {
            let file: File = OpenOptions::new().create(true).append(true).open(path)?;
            let meta = file.metadata()?;
            Ok((Box::new(BufWriter::new(file)), Some((meta.dev(), meta.ino()))))
        }
    }
}

fn name_of(target: &AccessLogTarget) -> &Path {
    match target {
        AccessLogTarget::Stderr => Path::new("stderr"),
        AccessLogTarget::File(path) => path,
    }
}

/// UTC, to the millisecond.
fn as_rfc3339<S: Serializer>(ms: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Rfc3339(*ms))
}

struct Rfc3339(u64);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Years begin in March here, so that the leap day is a year's last one (Hinnant, "chrono-compatible low-level date
        // algorithms", civil_from_days); 719,468 days lie between 0000-03-01 and 1970-01-01.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in the log are compared with those of other logs: leap days and centuries must be where they are elsewhere.
    #[test]
    fn times_are_written_as_everybody_writes_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_704_067_199_001, "2023-12-31T23:59:59.001Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(ms).to_string(), text);
        }
    }

    fn line(method: &str) -> Box<Line> {
        Box::new(Line { method: method.into(), ..Line::default() })
    }

    const LONG: Duration = Duration::from_secs(20);

    /// Logrotate moves the file away and expects that what comes next is in a new one.
    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::open(AccessLogTarget::File(path.clone()), 1.0).unwrap();
        log.write(line("a"));
        log.flush(LONG);
        std::fs::rename(&path, &moved).unwrap();
        log.write(line("b"));
        log.flush(LONG);
        log.write(line("c"));
        log.flush(LONG);
        let methods = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap();
            let method = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["method"].clone();
            text.lines().map(|line| method(line).as_str().unwrap().to_owned()).collect()
        };
        // One line may have gone to the old file: it is looked for after each write.
        assert_eq!((methods(&moved), methods(&path)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    }

    /// A share must be that share, exactly: bills and alarms are made of it.
    #[test]
    fn a_share_of_the_requests_is_exactly_that() {
        for (share, of_a_thousand) in [(0.0, 0), (0.001, 1), (0.25, 250), (0.5, 500), (1.0, 1000)] {
            let log = AccessLog::open(AccessLogTarget::Stderr, share).unwrap();
            assert_eq!((0..1000).filter(|_| log.wants()).count(), of_a_thousand, "{share}");
        }
    }

    /// The start must fail where nothing could ever be logged.
    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let error = AccessLog::open(AccessLogTarget::File("/no/such/folder/log".into()), 1.0).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the access log `/no/such/folder/log`: No such file"));
    }
}
