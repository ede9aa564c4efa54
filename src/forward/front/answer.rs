//! The body of what the front answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::body::BoxError;
use super::super::fleet::Watch;
use super::super::response::ResponseBody;
use super::super::stream::StreamBody;
use super::super::whole::Whole;

/// See the module's description.
#[derive(Default)]
pub(super) enum Answer {
    /// The head says it all.
    #[default]
    Nothing,
    /// A pod's response.
    Pod(ResponseBody),
    /// The answers of pods to a stream of requests.
    Stream(StreamBody),
    /// One that is here as a whole.
    Whole(Whole),
    /// The health of the fleet, for as long as the caller listens.
    Watch(Box<Watch>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Answer::Nothing => Poll::Ready(None),
            Answer::Pod(body) => Pin::new(body).poll_frame(cx),
            Answer::Stream(body) => Pin::new(body).poll_frame(cx),
            Answer::Watch(watch) => Pin::new(&mut **watch).poll_frame(cx).map_err(|never| match never {}),
            Answer::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Nothing => true,
            Answer::Pod(body) => body.is_end_stream(),
            Answer::Stream(body) => body.is_end_stream(),
            Answer::Whole(body) => body.is_end_stream(),
            Answer::Watch(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Nothing => SizeHint::with_exact(0),
            Answer::Pod(body) => body.size_hint(),
            Answer::Whole(body) => body.size_hint(),
            Answer::Stream(_) | Answer::Watch(_) => SizeHint::default(),
        }
    }
}
