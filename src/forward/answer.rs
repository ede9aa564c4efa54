//! A pod's answer before anything of it went to the caller: its head, and what it says of errors.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use serde::Deserialize;
use tonic::{Code, Status};

use super::call::Face;
use super::outcome::{Refusal, code_of, is_ok};
use super::upstream::{Received, causes};

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
    /// A text where the pod broke off in the middle of an error: nothing of it is left then.
    pub(super) async fn of(face: Face, response: Response<Received>) -> Result<Answer, String> {
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

    /// Reads what an error says, if it is as short as errors are: none of it is lost if it is not.
    async fn read_error(&mut self) -> Result<(), String> {
        let mut held = BytesMut::new();
        // One that stops in the middle is passed on as far as it came.
        let read = tokio::time::timeout(PATIENCE, self.read_into(&mut held)).await;
        self.held = held.freeze();
        read.unwrap_or(Ok(()))?;
        let text = if self.body.is_none() { error_text(&self.held) } else { self.head.status.to_string() };
        self.error = Some(Status::new(code_of(self.head.status), text));
        Ok(())
    }

    async fn read_into(&mut self, held: &mut BytesMut) -> Result<(), String> {
        while let Some(body) = self.body.as_mut().filter(|_| held.len() <= LONGEST_ERROR) {
            let frame = body.frame().await;
            match frame {
                Some(frame) => held.extend(frame.map_err(|error| causes(&error))?.into_data()),
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
