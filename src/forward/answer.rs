//! A pod's answer before anything of it went to the caller: its head, and what it says of errors.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tonic::{Code, Status};

use super::call::Face;
use super::outcome::{Refusal, code_of, is_ok};

/// The longest text of an HTTP error that is read before the answer is passed on. Triton's have a line.
const LONGEST_ERROR: usize = 64 << 10;
/// How long that may take to come, once its head is here.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's description.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    /// What comes of it still.
    pub(super) body: Option<Incoming>,
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
    /// A text where the pod broke off in the middle of an error, or sent none: nothing of it is left then.
    pub(super) async fn of(face: Face, response: Response<Incoming>) -> Result<Answer, String> {
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

    /// Its code.
    pub(super) fn code(&self) -> Code {
        self.error.as_ref().map_or(Code::Ok, Status::code)
    }

    async fn read_error(&mut self) -> Result<(), String> {
        let code = code_of(self.head.status);
        let length = self.head.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let short = length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length <= LONGEST_ERROR);
        let Some(body) = self.body.take_if(|_| short) else {
            self.error = Some(Status::new(code, self.head.status.to_string()));
            return Ok(());
        };
        let read = tokio::time::timeout(PATIENCE, Limited::new(body, LONGEST_ERROR).collect()).await;
        let read = read.map_err(|_| format!("its error did not come within {PATIENCE:?}"))?;
        self.held = read.map_err(|error| error.to_string())?.to_bytes();
        let text = match serde_json::from_slice::<HttpError>(&self.held) {
            Ok(error) => error.error,
            Err(_) => String::from_utf8_lossy(&self.held).into_owned(),
        };
        self.error = Some(Status::new(code, text));
        Ok(())
    }
}
