//! A request's line in the access log, from its arrival to its end. Where the log is off, or the request is not among those that
//! are sampled, there is none.

use http::{HeaderMap, Method};
use tonic::{Code, Status};

use super::call::{Call, Face};
use super::refusal::http_status;
use crate::driver::access_log::{AccessLog, Line};
use crate::driver::clock;
use crate::node::Ticket;
use crate::observe::Pod;
use crate::pick::Outcome;
use crate::time::Time;

/// A client's own name for its request, beside the one that is in it.
const REQUEST_ID: &str = "x-request-id";
/// Longer ones, and longer names, are cut: a line is no place for somebody's megabyte.
const LONGEST: usize = 256;

/// One line that is being written, and goes to the log when it is dropped. Without an end until then, its caller went away.
pub(super) struct Entry {
    log: AccessLog,
    face: Face,
    came: Time,
    /// Taken by the end.
    line: Option<Box<Line>>,
    /// How it would end now.
    outcome: Outcome,
}

impl Entry {
    /// Of a request that just came.
    pub(super) fn begin(
        log: &AccessLog,
        call: &Call,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Box<Entry>> {
        if !log.wants() {
            return None;
        }
        let (protocol, method) = match call.face {
            Face::Grpc => ("grpc", path.rsplit('/').next().unwrap_or(path).to_owned()),
            Face::Http => ("http", format!("{method} {path}")),
        };
        let line = Line {
            time_ms: clock::unix_ms(),
            protocol,
            method: cut(&method),
            model: cut(call.model()),
            request_id: request_id(call, headers),
            bytes_in: call.peek.bytes,
            ..Line::default()
        };
        Some(Box::new(Entry {
            log: log.clone(),
            face: call.face,
            came: clock::now(),
            line: Some(Box::new(line)),
            outcome: Outcome::Cancelled,
        }))
    }

    fn note(&mut self, write: impl FnOnce(&mut Line)) {
        if let Some(line) = &mut self.line {
            write(line);
        }
    }

    /// It is about to be sent to the pod that was picked.
    pub(super) fn picked(&mut self, ticket: &Ticket) {
        let queued = ms_since(self.came);
        self.outcome = Outcome::Cancelled;
        self.note(|line| {
            line.attempts += 1;
            line.cost_ms = Some(rounded(ticket.cost().as_ms()));
            line.wait_ms = Some(rounded(ticket.expected_wait().as_secs_f64() * 1e3));
            line.queued_ms = Some(queued);
            line.pod = Some(ticket.pod().name().to_owned());
        });
    }

    /// It has that pod's answer.
    pub(super) fn answered(&mut self, pod: &Pod) {
        self.note(|line| line.pod = Some(pod.name().to_owned()));
    }

    /// A piece of the answer passed.
    pub(super) fn passed(&mut self, bytes: u64) {
        self.note(|line| *line.bytes_out.get_or_insert(0) += bytes);
    }

    /// It ends so, with gRPC's or HTTP's code where there is one, unless it is sent again.
    pub(super) fn ends(&mut self, outcome: Outcome, code: Option<i32>) {
        self.outcome = outcome;
        self.note(|line| line.status = code);
    }

    /// It gets no pod's answer, but a status of this node's.
    pub(super) fn fail(&mut self, status: &Status) {
        let outcome = match status.code() {
            Code::Cancelled | Code::DeadlineExceeded => Outcome::Cancelled,
            Code::Unavailable => Outcome::Failed,
            _ => Outcome::Refused,
        };
        let code = match self.face {
            Face::Grpc => status.code() as i32,
            Face::Http => http_status(status).as_u16().into(),
        };
        self.ends(outcome, Some(code));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        line.outcome = match self.outcome {
            Outcome::Served => "served",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Cancelled => "cancelled",
        };
        line.duration_ms = ms_since(self.came);
        self.log.write(line);
    }
}

/// gRPC's code in trailers, or in a head that is all there is.
pub(super) fn code_in(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn request_id(call: &Call, headers: &HeaderMap) -> Option<String> {
    let own = std::str::from_utf8(&call.peek.id).ok().filter(|id| !id.is_empty());
    own.or_else(|| headers.get(REQUEST_ID)?.to_str().ok()).map(cut)
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

fn ms_since(then: Time) -> f64 {
    rounded(clock::now().since(then).as_secs_f64() * 1e3)
}

/// To the microsecond: more digits are noise.
fn rounded(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
