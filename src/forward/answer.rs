//! A pod's answer before anything of it went to the caller: its head, and what it says of errors.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use tonic::{Code, Status};

use super::call::Face;
use super::outcome::{Refusal, code_of, is_ok};
use super::send::PUSHBACK;
use super::upstream::{Lost, Received};

/// The longest text of an HTTP error that is read before the answer is passed on. Triton's have a line.
const LONGEST_ERROR: usize = 64 << 10;
/// How long that may take to come, once its head is here.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's description.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    /// What comes of it still.
    pub(super) body: Option<Received>,
    /// What was read of it already.
    pub(super) held: Bytes,
    /// What it says where it is an error from its head on.
    pub(super) error: Option<Status>,
}

/// The body of Triton's HTTP errors.
#[derive(Deserialize)]
struct HttpError {
    error: String,
}

impl Answer {
    /// Looks into `response`.
    ///
    /// # Errors
    /// [`Lost`] where the pod broke off in the middle of an error: nothing of it is left then.
    pub(super) async fn of(face: Face, response: Response<Received>) -> Result<Answer, Lost> {
        let (head, body) = response.into_parts();
        let mut answer = Answer { head, body: Some(body), held: Bytes::new(), error: None };
        match face {
            Face::Grpc if answer.head.headers.contains_key("grpc-status") && !is_ok(&answer.head.headers) => {
                answer.error = Status::from_header_map(&answer.head.headers);
            }
            Face::Http if answer.head.status.as_u16() >= 400 => Box::pin(answer.read_error()).await?,
            _ => {}
        }
        Ok(answer)
    }

    /// Why nothing ran, where it says so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.error.as_ref().and_then(|error| Refusal::of(error.code(), error.message()))
    }

    /// How long the pod wants to be spared such requests, where it says so.
    pub(super) fn push_back(&self) -> Option<Duration> {
        self.error.as_ref().and_then(|_| push_back_in(&self.head.headers))
    }

    /// Its code.
    pub(super) fn code(&self) -> Code {
        self.error.as_ref().map_or(Code::Ok, Status::code)
    }

    /// Reads what an error says, if it is as short as errors are: none of it is lost if it is not.
    async fn read_error(&mut self) -> Result<(), Lost> {
        let mut held = BytesMut::new();
        // One that stops in the middle is passed on as far as it came.
        let read = tokio::time::timeout(PATIENCE, self.read_into(&mut held)).await;
        self.held = held.freeze();
        read.unwrap_or(Ok(()))?;
        let text = if self.body.is_none() { error_text(&self.held) } else { self.head.status.to_string() };
        self.error = Some(Status::new(code_of(self.head.status), text));
        Ok(())
    }

    async fn read_into(&mut self, held: &mut BytesMut) -> Result<(), Lost> {
        while let Some(body) = self.body.as_mut().filter(|_| held.len() <= LONGEST_ERROR) {
            let frame = body.frame().await;
            match frame {
                Some(frame) => held.extend(frame?.into_data()),
                None => self.body = None,
            }
        }
        Ok(())
    }
}

/// What the body of an HTTP error says.
pub(super) fn error_text(body: &[u8]) -> String {
    match serde_json::from_slice::<HttpError>(body) {
        Ok(error) => error.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// gRPC's push-back (gRFC A6), in milliseconds; a negative one means that nobody is to come again, and says no time. HTTP's
/// `Retry-After`, in seconds; as a date it is passed on and not looked into.
pub(super) fn push_back_in(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number(PUSHBACK).map(Duration::from_millis).or_else(|| number("retry-after").map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// A pod that asks for rest must get it; nonsense from a pod must not take it out for hours.
    #[test]
    fn a_push_back_is_read_in_both_protocols() {
        let said = |name: &'static str, value: &'static str| {
            push_back_in(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]))
        };
        assert_eq!(said("grpc-retry-pushback-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(said("retry-after", "3"), Some(Duration::from_secs(3)));
        for nonsense in ["-1", "", "soon", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!((said("grpc-retry-pushback-ms", nonsense), said("retry-after", nonsense)), (None, None));
        }
    }
}
