//! Learns from the first bytes of a request what a pick needs: the model's name, the request's parameters, the size.
//!
//! It reads ahead until it has passed the gRPC prefix and the fields before the tensors, and no further: a tensor that
//! follows is not waited for. What it cannot make sense of it lets pass under an unknown model, for the pod to judge.

mod fields;
mod inflate;
mod json;
mod parameters;

use std::future::poll_fn;

use smallvec::SmallVec;
use tonic::Status;

use self::fields::Fields;
use self::inflate::Inflate;
pub(super) use self::inflate::{Compression, Progress, inflate};
pub(super) use self::json::{number, peek_json};
pub(super) use self::parameters::{Parameters, Sequence, SequenceId};

use super::body::{PREFIX, RequestBody, TooLarge, broken_off, message_length};

/// How much is read ahead in search of a name. Clients write fields in the order of their numbers, so the name is in the
/// first hundred bytes; twice as much would only serve the others, at twice the memory per slow request.
const READ_AHEAD: usize = 64 << 10;
/// How much of a compressed message is inflated at most: a thousandfold bomb costs a millisecond, not a minute.
const INFLATE: u64 = 1 << 20;

/// The longest id that is kept. Longer ones only tell the requests of one stream apart less well.
const MAX_ID: u64 = 128;

/// What the first message says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Peek {
    pub(super) name: SmallVec<[u8; 64]>,
    /// The request's own id; empty where it has none, or a very long one.
    pub(super) id: SmallVec<[u8; 24]>,
    /// Those that somebody set.
    pub(super) parameters: Parameters,
    /// Its length as sent.
    pub(super) bytes: u64,
}

impl Peek {
    /// The model; empty where it could not be found.
    pub(super) fn model(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The message's length.
    Size,
    /// Its first fields too, in a message that is compressed with this, where its flag says so.
    Model(Compression),
}

/// Reads ahead in `body` as far as needed.
///
/// # Errors
/// RESOURCE_EXHAUSTED where the message is over the limit, CANCELLED where the caller went away, DEADLINE_EXCEEDED where it
/// stopped.
pub(super) async fn peek(body: &mut RequestBody, depth: Depth) -> Result<Peek, Status> {
    let mut peeker = Peeker::new(depth, body.limit());
    while let Some(piece) = poll_fn(|cx| body.poll_read_ahead(cx)).await {
        let piece = piece.map_err(|error| broken_off(&error))?;
        if peeker.pass(&piece)? == Progress::Done {
            break;
        }
    }
    // Most requests end with their first piece; one that is known to be whole goes out in one go.
    poll_fn(|cx| body.look_for_end(cx)).await;
    Ok(peeker.found())
}

/// A peek at work, fed in whatever pieces the message comes.
pub(super) struct Peeker {
    depth: Depth,
    limit: u64,
    prefix: [u8; PREFIX],
    seen: usize,
    bytes: u64,
    /// Its fields; none before its prefix is complete, and where it is not to be read.
    fields: Option<Inflate<Fields>>,
}

impl Peeker {
    pub(super) fn new(depth: Depth, limit: u64) -> Peeker {
        Peeker { depth, limit, prefix: [0; PREFIX], seen: 0, bytes: 0, fields: None }
    }

    pub(super) fn pass(&mut self, mut piece: &[u8]) -> Result<Progress, TooLarge> {
        if self.seen < PREFIX {
            let taken = piece.len().min(PREFIX - self.seen);
            self.prefix[self.seen..self.seen + taken].copy_from_slice(&piece[..taken]);
            self.seen += taken;
            piece = &piece[taken..];
            if self.seen < PREFIX {
                return Ok(Progress::More);
            }
            self.bytes = message_length(&self.prefix, self.limit)?;
            self.fields = self.open();
        }
        self.seen += piece.len();
        let progress = self.fields.as_mut().map_or(Progress::Done, |fields| fields.pass(piece));
        Ok(if self.seen > READ_AHEAD { Progress::Done } else { progress })
    }

    fn open(&self) -> Option<Inflate<Fields>> {
        match (self.depth, self.prefix[0]) {
            (Depth::Model(_), 0) => Some(Inflate::plain(Fields::new(self.bytes))),
            (Depth::Model(compression), 1) => Inflate::compressed(compression, Fields::new(INFLATE)),
            (Depth::Model(_) | Depth::Size, _) => None,
        }
    }

    pub(super) fn found(&self) -> Peek {
        let found = self.fields.as_ref().map_or_else(Peek::default, |fields| fields.sink().found());
        Peek { bytes: self.bytes, ..found }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use flate2::Compression as Level;
    use http_body::{Body, Frame};
    use http_body_util::BodyExt;
    use plimsoll_proto::inference::infer_parameter::ParameterChoice;
    use plimsoll_proto::inference::{InferParameter, ModelInferRequest};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::source::Source;
    use super::*;

    const MODEL: Depth = Depth::Model(Compression::Unknown);

    /// A body that comes in the pieces given.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn in_pieces(bytes: &[u8], size: usize, limit: u64) -> RequestBody {
        let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
        RequestBody::new(Source::Client(tonic::body::Body::new(Pieces(pieces))), limit)
    }

    /// Peeks, then reads the body to its end: what was found, and what came out.
    fn peeked(bytes: &[u8], size: usize, depth: Depth) -> (Peek, Bytes) {
        block_on(async {
            let mut body = in_pieces(bytes, size, u64::MAX);
            let peek = peek(&mut body, depth).await.unwrap();
            (peek, body.collect().await.unwrap().to_bytes())
        })
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    fn infer() -> Vec<u8> {
        ModelInferRequest {
            model_name: "resnet50".into(),
            model_version: "7".into(),
            id: "x1".into(),
            raw_input_contents: vec![Bytes::from(vec![9; 5000])],
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// The name must be found however the bytes are cut, and the pod must get every one of them.
    #[test]
    fn the_model_is_found_in_any_pieces_and_nothing_is_lost() {
        let request = framed(0, &infer());
        for size in [1, 2, 3, 5, 7, 13, 4096, usize::MAX / 2] {
            let (peek, replayed) = peeked(&request, size, MODEL);
            assert_eq!((peek.model(), peek.bytes), ("resnet50", request.len() as u64 - 5), "pieces of {size}");
            assert_eq!(&peek.id[..], b"x1");
            assert_eq!(peek.parameters, Parameters::default());
            assert_eq!(replayed, request);
        }
    }

    /// The parameters stand before the tensors: they must be found however the bytes are cut, and the tensors not be waited
    /// for.
    #[test]
    fn parameters_are_found_before_the_tensors() {
        let choice = |choice| InferParameter { parameter_choice: Some(choice) };
        let parameters = [
            ("sequence_id", choice(ParameterChoice::StringParam("s-1".into()))),
            ("sequence_start", choice(ParameterChoice::BoolParam(true))),
            ("priority", choice(ParameterChoice::Uint64Param(2))),
            ("timeout", choice(ParameterChoice::Int64Param(1500))),
        ];
        let request = ModelInferRequest {
            parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..ModelInferRequest::decode(&infer()[..]).unwrap()
        };
        let request = framed(0, &request.encode_to_vec());
        for size in [1, 3, 11, 4096] {
            let peek = peeked(&request[..request.len() - 4000], size, MODEL).0;
            assert_eq!(peek.model(), "resnet50");
            let sequence = peek.parameters.sequence().unwrap();
            assert_eq!((sequence.id, sequence.start, sequence.end), (SequenceId::Text("s-1".into()), true, false));
            assert_eq!((peek.parameters.priority(), peek.parameters.timeout()), (2, Some(Duration::from_micros(1500))));
        }
    }

    /// Protobuf allows any order, though every client writes the name first.
    #[test]
    fn the_model_is_found_behind_other_fields() {
        let mut message =
            vec![0x38, 0x96, 0x01, 0x41, 1, 2, 3, 4, 5, 6, 7, 8, 0x4d, 1, 2, 3, 4, 0x3a, 3, 9, 9, 9, 0x3a, 0];
        message.extend(b"\x0a\x08resnet50\x12\x017");
        for size in [1, 4, 1000] {
            assert_eq!(peeked(&framed(0, &message), size, MODEL).0.model(), "resnet50");
        }
    }

    #[test]
    fn the_model_of_a_compressed_message_is_found() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Level::fast());
        gzip.write_all(&infer()).unwrap();
        let gzip = framed(1, &gzip.finish().unwrap());
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), Level::fast());
        deflate.write_all(&infer()).unwrap();
        let deflate = framed(1, &deflate.finish().unwrap());
        for size in [1, 10, 10_000] {
            for (bytes, compression) in [(&gzip, Compression::Gzip), (&deflate, Compression::Deflate)] {
                let (peek, replayed) = peeked(bytes, size, Depth::Model(compression));
                assert_eq!(peek.model(), "resnet50");
                assert_eq!(replayed, *bytes);
            }
        }
        assert_eq!(peeked(&gzip, 100, MODEL).0.model(), "");
    }

    /// A name may come late, or never: the search must end, and hold no more than its bound.
    #[test]
    fn the_search_gives_up_in_time() {
        let mut message = vec![0x3a];
        message.extend([0x80, 0x80, 0x08]);
        message.extend(vec![0; 1 << 17]);
        message.extend(b"\x0a\x08resnet50");
        let request = framed(0, &message);
        let mut body = in_pieces(&request, 1000, u64::MAX);
        let found = block_on(peek(&mut body, MODEL)).unwrap();
        assert_eq!((found.model(), found.bytes), ("", message.len() as u64));
        // The bound may fall into a piece, and one more is looked at.
        assert!(body.held_bytes() <= READ_AHEAD + 2000);
        assert_eq!(block_on(body.collect()).unwrap().to_bytes(), request);
    }

    /// Over the limit is said from the prefix, for the first message and for every later one.
    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let error = block_on(peek(&mut in_pieces(&framed(0, &infer()), 5, 1000), MODEL)).unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(error.message().ends_with("bytes is over the limit of 1000 bytes"), "{error}");
        let second = [framed(0, b"\x0a\x01m"), framed(0, &infer())].concat();
        for size in [1, 9, 10_000] {
            let mut body = in_pieces(&second, size, 1000);
            assert_eq!(block_on(peek(&mut body, MODEL)).unwrap().model(), "m");
            assert!(block_on(body.collect()).is_err());
        }
    }

    proptest! {
        /// Strangers choose these bytes; the pod must get them all the same.
        #[test]
        fn any_bytes_pass_unchanged(bytes in vec(any::<u8>(), 0..400), size in 1_usize..50, kind in 0..4) {
            let depth = match kind {
                0 => Depth::Size,
                1 => MODEL,
                2 => Depth::Model(Compression::Gzip),
                _ => Depth::Model(Compression::Deflate),
            };
            prop_assert_eq!(peeked(&bytes, size, depth).1, bytes);
        }

        /// The same for fields that begin like a message.
        #[test]
        fn any_message_passes_unchanged(bytes in vec(any::<u8>(), 0..400), size in 1_usize..50, flag in 0_u8..2) {
            let request = framed(flag, &bytes);
            let (peek, replayed) = peeked(&request, size, Depth::Model(Compression::Gzip));
            prop_assert_eq!(peek.bytes, bytes.len() as u64);
            prop_assert_eq!(replayed, request);
        }
    }
}
