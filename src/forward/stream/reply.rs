//! The response: its head, answers that no pod gave, and its end.

use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use plimsoll_proto::inference::{ModelInferResponse, ModelStreamInferResponse};
use tonic::Status;

use super::legs::Leg;
use super::{Over, Work};
use crate::forward::ask::framed;
use crate::forward::call::Call;
use crate::forward::pin::say_pod;
use crate::forward::response::trailers;

impl Work {
    /// The response begins with the head of `leg`, if none did.
    pub(super) fn begin_by(&mut self, id: u64) {
        let Some(leg) = self.legs.get(id) else { return };
        let Some(mut head) = leg.head.take() else { return };
        let Some(begin) = self.begin.take() else { return };
        // One pod among several is not the one that served it.
        if self.own.is_some() {
            say_pod(&mut head.headers, &leg.pod);
        }
        // Its caller may be gone, which the next step sees.
        let _ = begin.send(Ok((head, false)));
    }

    /// Tells the caller that one request has no answer, as Triton tells it: inside of the stream. Where that has not begun,
    /// nothing else is under way and no pod said it inside of a stream, the stream itself fails.
    pub(super) fn fail(&mut self, call: &Call, status: &Status, by_pod: bool) -> Result<(), Over> {
        if self.begin.is_some() && self.legs.is_empty() && !by_pod {
            return self.end_with(status);
        }
        self.begin_plain();
        let id = String::from_utf8_lossy(&call.peek.id).into_owned();
        let answer = ModelStreamInferResponse {
            error_message: status.message().to_owned(),
            infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
        };
        self.outbox.push_back(Frame::data(framed(&answer)));
        Ok(())
    }

    /// Begins the response without a pod's head.
    fn begin_plain(&mut self) {
        let Some(begin) = self.begin.take() else { return };
        let mut response = Response::new(());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let _ = begin.send(Ok((response.into_parts().0, false)));
    }

    /// Half-closes the pods' sides when the caller has said all; ends the stream when they have too.
    pub(super) fn close(&mut self) -> Result<(), Over> {
        if !self.inbound.has_ended() {
            return Ok(());
        }
        self.legs.half_close();
        if !self.legs.is_empty() {
            return Ok(());
        }
        let status = self.status.take().unwrap_or_else(|| headers_of(&Status::ok("")));
        self.begin_plain();
        self.outbox.push_back(Frame::trailers(status));
        Err(Over)
    }

    /// The stream ends as `leg` ended, with `self.status`.
    pub(super) fn end_by(&mut self, mut leg: Leg) -> Result<(), Over> {
        let status = self.status.take().unwrap_or_default();
        let head = leg.head.take().filter(|head| head.headers.contains_key("grpc-status"));
        match (self.begin.take(), head) {
            // It was in the head, and so it stays.
            (Some(begin), Some(mut head)) => {
                say_pod(&mut head.headers, &leg.pod);
                let _ = begin.send(Ok((head, true)));
            }
            (begin, _) => {
                self.begin = begin;
                self.begin_plain();
                self.outbox.push_back(Frame::trailers(status));
            }
        }
        Err(Over)
    }

    /// The stream ends with `status`.
    pub(super) fn end_with(&mut self, status: &Status) -> Result<(), Over> {
        match self.begin.take() {
            Some(begin) => drop(begin.send(Err(status.clone()))),
            None => self.outbox.push_back(trailers(status)),
        }
        Err(Over)
    }
}

/// `status` as it ends a response.
pub(super) fn headers_of(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Fails only for metadata that is no header; there is none.
    let _ = status.add_header(&mut headers);
    headers
}
