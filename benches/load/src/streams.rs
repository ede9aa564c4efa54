//! Requests in streams that stay open: what callers of `ModelStreamInfer` do who open one for each worker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_load::{Carrier, Client};
use plimsoll_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// Open streams, as many to each target; requests take turns on them.
pub(crate) struct Streams {
    targets: Vec<Vec<Stream>>,
    turn: AtomicUsize,
}

struct Stream {
    say: mpsc::UnboundedSender<ModelInferRequest>,
    waiting: Arc<Waiting>,
}

/// Who waits for the answer to which request.
#[derive(Default)]
struct Waiting(Mutex<HashMap<String, oneshot::Sender<Result<(), Status>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Result<(), Status>>>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// `each` streams to every one of `clients`; a stream begins with its first request.
    pub(crate) fn open(clients: Vec<Client>, each: usize) -> Streams {
        let open = |client: &Client| (0..each).map(|_| Stream::open(client.clone())).collect();
        Streams { targets: clients.iter().map(open).collect(), turn: AtomicUsize::new(0) }
    }
}

impl Stream {
    fn open(mut client: Client) -> Stream {
        let (say, said) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let answered = waiting.clone();
        tokio::spawn(async move {
            let answers = client.model_stream_infer(UnboundedReceiverStream::new(said)).await;
            let end = match answers {
                Ok(answers) => read(answers.into_inner(), &answered).await,
                Err(status) => status,
            };
            for (_, waits) in answered.lock().drain() {
                waits.send(Err(end.clone())).unwrap_or_default();
            }
        });
        Stream { say, waiting }
    }
}

/// Hands answers to who waits for them, until the stream ends.
async fn read(mut answers: Streaming<ModelStreamInferResponse>, waiting: &Waiting) -> Status {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Status::unavailable("the stream ended"),
            Err(status) => return status,
        };
        let id = answer.infer_response.map(|response| response.id).unwrap_or_default();
        if let Some(waits) = waiting.lock().remove(&id) {
            let good = answer.error_message.is_empty();
            waits.send(if good { Ok(()) } else { Err(Status::internal(answer.error_message)) }).unwrap_or_default();
        }
    }
}

impl Carrier for Streams {
    fn targets(&self) -> usize {
        self.targets.len()
    }

    async fn infer(&self, target: usize, mut request: ModelInferRequest) -> Result<(), Status> {
        let (streams, turn) = (&self.targets[target], self.turn.fetch_add(1, Relaxed));
        let stream = &streams[turn % streams.len()];
        let (answer, answered) = oneshot::channel();
        request.id = turn.to_string();
        stream.waiting.lock().insert(request.id.clone(), answer);
        stream.say.send(request).map_err(|_| Status::unavailable("the stream is closed"))?;
        answered.await.unwrap_or_else(|_| Err(Status::unavailable("the stream was given up")))
    }
}
