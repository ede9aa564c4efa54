//! What no answer of the API server may do: not begin, not end, end too soon.
//!
//! A watch that ends at once is begun again at once by kube's watcher, without a word. An API server, or a proxy before it,
//! that ends every watch so would be asked as fast as it answers, by all nodes, and nobody would hear of any change.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::Limited;
use kube::Client;
use tokio::time::{Sleep, sleep, timeout};
use tower::BoxError;

/// How long an answer may take to begin, connection and TLS included. A list that is read from etcd takes seconds where
/// the API server has much to do.
const BEGINS: Duration = Duration::from_secs(30);
/// The most that is read of one answer: a page of 500 slices of 100 endpoints each is half of it. A watch that says more
/// within its five minutes is begun anew.
const MOST_BYTES: usize = 64 << 20;
/// A watch that ends sooner is broken: they are asked to last for minutes.
const LASTS: Duration = Duration::from_secs(1);

/// The same client with these bounds on what it is answered.
pub(super) fn guarded(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let client = client.clone();
        async move {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let Ok(answer) = timeout(BEGINS, client.send(request)).await else {
                return Err(BoxError::from(format!("no answer within {} s", BEGINS.as_secs())));
            };
            let answer = answer?;
            let too_soon = (is_watch && answer.status().is_success()).then(|| Box::pin(sleep(LASTS)));
            Ok(answer.map(|body| Guarded { body: Limited::new(body, MOST_BYTES), too_soon }))
        }
    });
    Client::new(service, namespace)
}

struct Guarded {
    body: Limited<kube::client::Body>,
    /// Of a watch: until then it must not end.
    too_soon: Option<Pin<Box<Sleep>>>,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.too_soon.as_mut().is_some_and(|too_soon| too_soon.as_mut().poll(cx).is_ready()) {
            self.too_soon = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.too_soon.take().is_some() {
            return Poll::Ready(Some(Err(format!("a watch ended within {} s", LASTS.as_secs()).into())));
        }
        Poll::Ready(frame)
    }
}
