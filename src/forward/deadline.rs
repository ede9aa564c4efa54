//! The caller's deadline, kept here: a pod that hangs must not hold its caller longer than the caller said.
//!
//! The pod is told of a deadline a little later than the caller's, so that it is always the node that ends the request
//! (by a cancel, which servers handle well). A Triton (2.51, gRPC C-core) whose own deadline passes answers the stream
//! several times over, and an HTTP/2 client must take that for a broken connection: with the caller's own value one in
//! four timeouts seen took all other requests on that connection with it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Sleep;
use tonic::Status;

use crate::driver::clock;
use crate::time::Time;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How much later the pod's deadline is. Less than a stall of this process under load would bring the trouble back; more
/// gains nothing, because a pod whose node is gone sees its connection close.
const LATER: Duration = Duration::from_secs(1);

/// When a request's caller gives up, if it said so.
pub(super) struct Deadline(Option<Pin<Box<Sleep>>>, Option<Time>);

impl Deadline {
    /// Takes over the deadline that `grpc-timeout` sets from now on, and leaves a later one in its place for the pod.
    pub(super) fn take_over(headers: &mut HeaderMap) -> Deadline {
        let Some(value) = headers.get_mut(GRPC_TIMEOUT) else { return Deadline::none() };
        let Some(timeout) = parse(value.as_bytes()) else { return Deadline::none() };
        *value = format(timeout + LATER);
        Deadline(Some(Box::pin(tokio::time::sleep(timeout))), Some(clock::now() + timeout))
    }

    /// A caller that waits for ever.
    pub(super) fn none() -> Deadline {
        Deadline(None, None)
    }

    /// When it passes.
    pub(super) fn until(&self) -> Option<Time> {
        self.1
    }

    /// Whether it has passed; wakes the task when it does.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Status::deadline_exceeded("deadline exceeded")),
            None => Poll::Pending,
        }
    }

    /// Waits until it has passed.
    pub(super) async fn passed(&mut self) -> Status {
        std::future::poll_fn(|cx| self.poll_passed(cx)).await
    }

    /// Runs `work` until the deadline at most. What is not done then is dropped, and with it its ticket.
    pub(super) async fn within<T>(&mut self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        if self.0.is_none() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Pending => self.poll_passed(cx).map(Err),
            done => done,
        })
        .await
    }
}

/// A gRPC timeout: up to eight digits and a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The same as text, in milliseconds where eight digits hold them (27 hours), else in whole hours.
fn format(timeout: Duration) -> HeaderValue {
    let text = match timeout.as_millis() {
        ms @ ..=99_999_999 => format!("{ms}m"),
        _ => format!("{}H", (timeout.as_secs() / 3600 + 1).min(99_999_999)),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| unreachable!("digits and a letter are a header's value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text comes from clients: nonsense means no deadline, never a panic.
    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse(b"993m"), Some(Duration::from_millis(993)));
        assert_eq!(parse(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for nonsense in [&b""[..], b"m", b"1", b"-1S", b"1.5S", b"123456789n", b"5x"] {
            assert_eq!(parse(nonsense), None);
        }
    }

    /// A pod that gives up first would break its connection: see above.
    #[tokio::test]
    async fn the_pod_is_told_a_later_deadline() {
        for (caller, pod) in [("993m", "1993m"), ("20000u", "1020m"), ("99999S", "28H"), ("99999999H", "99999999H")] {
            let mut headers = HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), caller.parse().unwrap())]);
            assert!(Deadline::take_over(&mut headers).0.is_some());
            assert_eq!(headers[GRPC_TIMEOUT], pod);
        }
    }
}
