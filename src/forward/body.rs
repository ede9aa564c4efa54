//! The body of a request on its way to a pod: what was read ahead for the peek, then the rest as it comes.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use smallvec::SmallVec;
use tonic::Status;

use super::source::{Late, Source};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes before each gRPC message: a flag (1: compressed) and the message's length.
pub(super) const PREFIX: usize = 5;

/// A request's body. Holds what was read ahead and replays it; every byte passes once, as it came, uncopied.
pub(super) struct RequestBody {
    held: SmallVec<[Bytes; 2]>,
    /// How many of `held` were replayed.
    replayed: usize,
    trailers: Option<HeaderMap>,
    source: Option<Source>,
    framing: Framing,
    fault: Fault,
    /// Whether its caller broke off while it was read ahead.
    broken: bool,
}

/// Where a body that goes wrong on its way says so: its caller shall get that status and no other.
pub(super) type Fault = Option<Arc<OnceLock<Wrong>>>;

/// What a caller did wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Late(#[from] Late),
}

/// What is known to be wrong by now.
pub(super) fn wrong(fault: &Fault) -> Option<Wrong> {
    fault.as_deref().and_then(OnceLock::get).copied()
}

impl From<Wrong> for Status {
    fn from(wrong: Wrong) -> Status {
        match wrong {
            Wrong::TooLarge(too_large) => too_large.into(),
            Wrong::Late(late) => late.into(),
        }
    }
}

/// The status of a request whose body could not be read to its end.
pub(super) fn broken_off(error: &BoxError) -> Status {
    match (error.downcast_ref::<TooLarge>(), error.downcast_ref::<Late>()) {
        (Some(too_large), _) => (*too_large).into(),
        (None, Some(late)) => (*late).into(),
        (None, None) => Status::cancelled(format!("the request ended early: {error}")),
    }
}

/// A message, or a body without messages in it, is over the limit. It was not read, nor passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} of {bytes} bytes is over the limit of {limit} bytes")]
pub(super) struct TooLarge {
    what: &'static str,
    bytes: u64,
    limit: u64,
}

impl From<TooLarge> for Status {
    /// With itself as the source: HTTP has a status of its own for it.
    fn from(too_large: TooLarge) -> Status {
        let mut status = Status::resource_exhausted(too_large.to_string());
        status.set_source(Arc::new(too_large));
        status
    }
}

impl RequestBody {
    /// gRPC messages, each of `limit` bytes at most.
    pub(super) fn new(source: Source, limit: u64) -> RequestBody {
        RequestBody::of(Some(source), SmallVec::new(), Framing::Messages(Messages::new(limit)))
    }

    /// What an HTTP request brings: `limit` bytes at most, of which its head may announce how many.
    ///
    /// # Errors
    /// [`TooLarge`] where it announces more.
    pub(super) fn plain(source: Source, announced: Option<u64>, limit: u64) -> Result<RequestBody, TooLarge> {
        let length = Length { announced, seen: 0, limit };
        length.check(announced.unwrap_or(0))?;
        Ok(RequestBody::of(Some(source), SmallVec::new(), Framing::None(length)))
    }

    /// One message that is already there, prefix and all.
    pub(super) fn ready(message: Bytes) -> RequestBody {
        let held = SmallVec::from_iter((!message.is_empty()).then_some(message));
        RequestBody::of(None, held, Framing::Messages(Messages::new(u64::MAX)))
    }

    /// What passed the limits already.
    pub(super) fn checked(source: Source) -> RequestBody {
        let length = Length { announced: None, seen: 0, limit: u64::MAX };
        RequestBody::of(Some(source), SmallVec::new(), Framing::None(length))
    }

    fn of(source: Option<Source>, held: SmallVec<[Bytes; 2]>, framing: Framing) -> RequestBody {
        RequestBody { held, replayed: 0, trailers: None, source, framing, fault: None, broken: false }
    }

    /// The limit on each of its messages, or on all of it.
    pub(super) fn limit(&self) -> u64 {
        match &self.framing {
            Framing::Messages(messages) => messages.limit,
            Framing::None(length) => length.limit,
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.iter().map(Bytes::len).sum()
    }

    /// Says from now on what goes wrong with it, unless it is here already.
    pub(super) fn watch(&mut self) -> Fault {
        if !self.source_ended() && !self.holds_all() {
            self.fault = Some(Arc::default());
        }
        self.fault.clone()
    }

    /// Reads one more piece ahead; none at the end.
    pub(super) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            match ready!(self.poll_source(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    // Empty pieces are not held: any number of them would fit under a bound in bytes.
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.held.push(data.clone());
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// Looks, without waiting, whether what was read ahead is all there is.
    pub(super) fn look_for_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A further piece is held like the others, and what cannot be read now is read when its turn comes; a broken
        // body ends the request there.
        if !self.source_ended() && matches!(self.poll_read_ahead(cx), Poll::Ready(Some(Err(_)))) {
            self.broken = true;
        }
        Poll::Ready(())
    }

    /// Whether what was read ahead is all that was announced.
    fn holds_all(&self) -> bool {
        let held = self.held.iter().map(Bytes::len).sum::<usize>() as u64;
        match &self.framing {
            Framing::Messages(_) => announced(&self.held) == Some(held),
            Framing::None(length) => length.announced == Some(held),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.source {
            None => None,
            Some(source) => ready!(Pin::new(source).poll_frame(cx)),
        };
        if let Some(Err(error)) = &frame
            && let Some(late) = error.downcast_ref::<Late>()
        {
            self.say(*late);
        }
        if !matches!(frame, Some(Ok(_))) {
            self.source = None;
        }
        Poll::Ready(frame)
    }

    fn say(&self, wrong: impl Into<Wrong>) {
        if let Some(fault) = &self.fault {
            fault.get_or_init(|| wrong.into());
        }
    }

    fn source_ended(&self) -> bool {
        match &self.source {
            None => true,
            Some(source) => source.is_end_stream(),
        }
    }

    /// Lets `data` pass if it keeps to the limit.
    fn check(&mut self, data: Bytes) -> Result<Frame<Bytes>, BoxError> {
        let passed = match &mut self.framing {
            Framing::None(length) => length.pass(&data),
            Framing::Messages(messages) => messages.pass(&data),
        };
        if let Err(too_large) = passed {
            self.say(too_large);
            self.source = None;
            return Err(too_large.into());
        }
        Ok(Frame::data(data))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.replayed < self.held.len() {
            let replayed = self.replayed;
            self.replayed += 1;
            let data = std::mem::take(&mut self.held[replayed]);
            return Poll::Ready(Some(self.check(data)));
        }
        if std::mem::take(&mut self.broken) {
            return Poll::Ready(Some(Err("the caller broke off".into())));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(self.poll_source(cx));
        Poll::Ready(frame.map(|frame| match frame?.into_data() {
            Ok(data) => self.check(data),
            Err(frame) => Ok(frame),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.replayed == self.held.len() && self.trailers.is_none() && !self.broken && self.source_ended()
    }
}

/// What is in a body, as far as its limit counts it.
#[derive(Debug)]
enum Framing {
    /// gRPC's messages.
    Messages(Messages),
    /// Bytes.
    None(Length),
}

/// Follows a body's length.
#[derive(Clone, Copy, Debug)]
struct Length {
    announced: Option<u64>,
    seen: u64,
    limit: u64,
}

impl Length {
    fn pass(&mut self, data: &[u8]) -> Result<(), TooLarge> {
        self.seen += data.len() as u64;
        self.check(self.seen)
    }

    fn check(&self, bytes: u64) -> Result<(), TooLarge> {
        let limit = self.limit;
        if bytes > limit { Err(TooLarge { what: "body", bytes, limit }) } else { Ok(()) }
    }
}

/// Follows the boundaries of messages, by their prefixes alone.
#[derive(Debug)]
pub(super) struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are here.
    seen: usize,
    /// Bytes behind it that are to come.
    left: u64,
    limit: u64,
}

/// The part of one message at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: usize,
    /// Whether the message begins and ends with it.
    pub(super) begins: bool,
    pub(super) ends: bool,
}

impl Messages {
    pub(super) fn new(limit: u64) -> Messages {
        Messages { prefix: [0; PREFIX], seen: 0, left: 0, limit }
    }

    /// Takes what belongs to one message from the start of `data`, which is not empty.
    ///
    /// # Errors
    /// [`TooLarge`] with the prefix of a message that is over the limit.
    pub(super) fn next(&mut self, data: &[u8]) -> Result<Part, TooLarge> {
        let begins = self.seen == 0;
        let mut bytes = data.len().min(PREFIX - self.seen);
        if bytes > 0 {
            self.prefix[self.seen..self.seen + bytes].copy_from_slice(&data[..bytes]);
            self.seen += bytes;
            if self.seen == PREFIX {
                self.left = message_length(&self.prefix, self.limit)?;
            }
        }
        if self.seen == PREFIX {
            let more = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len() - bytes);
            self.left -= more as u64;
            bytes += more;
        }
        let ends = self.seen == PREFIX && self.left == 0;
        if ends {
            self.seen = 0;
        }
        Ok(Part { bytes, begins, ends })
    }

    fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLarge> {
        while !data.is_empty() {
            data = &data[self.next(data)?.bytes..];
        }
        Ok(())
    }
}

/// How long the message is, prefix and all, that begins with `pieces`; none where its prefix is not whole.
pub(super) fn announced(pieces: &[Bytes]) -> Option<u64> {
    let prefix: SmallVec<[u8; PREFIX]> = pieces.iter().flatten().take(PREFIX).copied().collect();
    let prefix = <[u8; PREFIX]>::try_from(&prefix[..]).ok()?;
    message_length(&prefix, u64::MAX).ok().map(|length| PREFIX as u64 + length)
}

/// The length that a prefix announces.
pub(super) fn message_length(prefix: &[u8; PREFIX], limit: u64) -> Result<u64, TooLarge> {
    let bytes = u64::from(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]));
    if bytes > limit { Err(TooLarge { what: "message", bytes, limit }) } else { Ok(bytes) }
}
