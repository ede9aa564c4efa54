//! The caller's deadline, kept here too: a pod that hangs must not hold its caller longer than the caller said.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Sleep;
use tonic::Status;

/// When a request's caller gives up, if it said so.
pub(super) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// The deadline that `grpc-timeout` sets, from now on.
    pub(super) fn of(headers: &HeaderMap) -> Deadline {
        let timeout = headers.get("grpc-timeout").and_then(|value| parse(value.as_bytes()));
        Deadline(timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))))
    }

    /// Whether it has passed; wakes the task when it does.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Status::deadline_exceeded("deadline exceeded")),
            None => Poll::Pending,
        }
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
}
