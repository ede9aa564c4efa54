//! What a pod's answer inside a stream says: to which request it belongs, and whether it is that one's last.

use smallvec::SmallVec;
use tonic::Code;

use super::super::body::PREFIX;
use super::super::outcome::{Refusal, without_id};
use super::super::peek::{Compression, inflate};
use super::inbound::Pieces;

/// How much of an answer is looked into. What is looked for stands before its tensors; an error has a line.
const LOOK: usize = 16 << 10;
/// The parameter by which Triton marks the last answer of those who asked for it.
const FINAL: &[u8] = b"triton_final_response";

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// The request's id.
    pub(super) id: SmallVec<[u8; 24]>,
    /// Why there is no answer.
    pub(super) error: Option<String>,
    /// Whether it is the last one, where it says so.
    pub(super) is_final: Option<bool>,
}

impl Said {
    /// What it comes to in gRPC's codes; inside a stream Triton gives its errors none.
    pub(super) fn code(&self) -> Code {
        if self.error.is_none() { Code::Ok } else { Code::Unknown }
    }

    /// Why nothing ran, where it says so. Inside a stream Triton's errors have no code, and a model may say what it likes: only
    /// what begins as the server's own texts do is taken for one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let text = without_id(self.error.as_deref()?);
        let (_, code) = SERVERS_OWN.into_iter().find(|(begins, _)| text.starts_with(begins))?;
        Refusal::of(code, text)
    }
}

/// How the texts begin that a Triton (2.51) itself says when it takes nothing of a request, and the codes that they have outside of
/// streams.
const SERVERS_OWN: [(&str, Code); 6] = [
    ("Exceeds maximum queue size", Code::Unavailable),
    ("Server exiting", Code::Unavailable),
    ("Server is stopping, scheduler for model", Code::Unavailable),
    ("Request for unknown model: ", Code::NotFound),
    ("Stub process '", Code::Internal),
    ("inference request for sequence ", Code::InvalidArgument),
];

/// Looks into the first `pieces` of an answer; none where more of it is needed. What makes no sense says nothing.
pub(super) fn said(pieces: &Pieces, whole: bool, compression: Compression) -> Option<Said> {
    let here: usize = pieces.iter().map(bytes::Bytes::len).sum();
    // A plain answer of one piece is looked into where it is.
    let joined;
    let bytes: &[u8] = match &pieces[..] {
        [piece] => piece,
        _ => {
            joined = pieces.concat();
            &joined
        }
    };
    let enough = whole || here >= LOOK;
    let Some((prefix, message)) = bytes.split_first_chunk::<PREFIX>() else { return enough.then(Said::default) };
    let (said, complete) = match prefix[0] {
        0 => look(&message[..message.len().min(LOOK)]),
        _ if !enough => return None,
        // An answer that is cut off, or garbage: what came of it until then is all there is.
        _ => look(&inflate(compression, message, LOOK).0),
    };
    (complete || enough).then_some(said)
}

/// What a `ModelStreamInferResponse` says (1: an error's text, 2: the response), and whether all of that was there.
fn look(message: &[u8]) -> (Said, bool) {
    let mut said = Said::default();
    let mut complete = false;
    for field in Walk(message) {
        match (field.number, field.bytes) {
            (1, Some(text)) if !text.is_empty() => said.error = Some(String::from_utf8_lossy(text).into_owned()),
            (2, Some(response)) => complete |= look_inside(response, &mut said) && said.error.is_none(),
            _ => {}
        }
    }
    (said, complete)
}

/// What the `ModelInferResponse` in it says (3: the id, 4: parameters), and whether all of that was there: what follows are
/// tensors.
fn look_inside(response: &[u8], said: &mut Said) -> bool {
    for field in Walk(response) {
        match (field.number, field.bytes) {
            (3, Some(id)) => said.id = SmallVec::from_slice(id),
            (4, Some(entry)) => {
                let mut entry = Walk(entry);
                let is_final = entry.next().is_some_and(|key| key.bytes == Some(FINAL));
                if let Some(value) = entry.next().filter(|_| is_final) {
                    // A parameter whose first choice, a flag, is set.
                    said.is_final = Some(value.bytes == Some(&[8, 1]));
                }
            }
            (5.., _) => return true,
            _ => {}
        }
    }
    false
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    /// Of one that has a length: as much as is there.
    bytes: Option<&'a [u8]>,
}

/// The fields of a message, as far as it is there and makes sense.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let Walk(rest) = self;
        let key = prost::encoding::decode_varint(rest).ok()?;
        let bytes = match key & 7 {
            0 => {
                prost::encoding::decode_varint(rest).ok()?;
                None
            }
            1 => {
                *rest = rest.get(8..)?;
                None
            }
            2 => {
                let length = prost::encoding::decode_varint(rest).ok()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
                let (taken, left) = rest.split_at(length);
                *rest = left;
                Some(taken)
            }
            5 => {
                *rest = rest.get(4..)?;
                None
            }
            _ => return None,
        };
        Some(Field { number: key >> 3, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use plimsoll_proto::inference::infer_parameter::ParameterChoice;
    use plimsoll_proto::inference::{InferParameter, ModelInferResponse, ModelStreamInferResponse};
    use proptest::prelude::*;

    use super::super::super::ask::framed;
    use super::*;

    fn answer(id: &str, is_final: Option<bool>, tensor: usize) -> ModelStreamInferResponse {
        let flag = |flag| InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(flag)) };
        let response = ModelInferResponse {
            model_name: "m".into(),
            model_version: "1".into(),
            id: id.into(),
            parameters: is_final
                .map(|is_final| (String::from_utf8_lossy(FINAL).into_owned(), flag(is_final)))
                .into_iter()
                .collect(),
            raw_output_contents: vec![Bytes::from(vec![7; tensor])],
            ..ModelInferResponse::default()
        };
        ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
    }

    fn in_pieces(bytes: &Bytes, size: usize) -> Pieces {
        bytes.chunks(size).map(Bytes::copy_from_slice).collect()
    }

    /// A ticket ends by what is read here: it must be the same however the bytes are cut, and without waiting for the tensors.
    #[test]
    fn an_answer_is_understood_before_its_tensors_are_there() {
        for is_final in [None, Some(false), Some(true)] {
            let bytes = framed(&answer("r-1", is_final, 100_000));
            let expected = Said { id: SmallVec::from_slice(b"r-1"), error: None, is_final };
            for (size, pieces) in [(1, 80), (7, 20), (4096, 1)] {
                let begun: Pieces = in_pieces(&bytes, size).into_iter().take(pieces).collect();
                assert_eq!(said(&begun, false, Compression::Unknown), Some(expected.clone()), "{size}");
            }
            let begun = in_pieces(&bytes.slice(..12), 3);
            assert_eq!(said(&begun, false, Compression::Unknown), None, "more is needed");
        }
    }

    /// Triton's errors inside of streams have a text and no code: it alone says that nothing ran.
    #[test]
    fn an_error_is_read_with_its_id() {
        let error = "Request for unknown model: 'm' has no available versions";
        let bytes = framed(&ModelStreamInferResponse { error_message: error.into(), ..answer("r-2", None, 0) });
        let said = said(&in_pieces(&bytes, 9), true, Compression::Unknown).unwrap();
        assert_eq!((&said.id[..], said.error.as_deref()), (&b"r-2"[..], Some(error)));
        assert!(said.refusal().is_some());
        for (text, is_refusal) in [
            ("[request id: r-2] Exceeds maximum queue size", true),
            ("shape mismatch", false),
            // What a model says may have run.
            ("Failed to process the request(s), message: Exceeds maximum queue size", false),
        ] {
            let other = Said { error: Some(text.into()), ..said.clone() };
            assert_eq!(other.refusal().is_some(), is_refusal, "{text}");
        }
    }

    /// Clients that ask for compressed answers must not leave their tickets behind.
    #[test]
    fn a_compressed_answer_is_understood() {
        let plain = framed(&answer("r-3", Some(true), 500));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain[PREFIX..]).unwrap();
        let gzip = gzip.finish().unwrap();
        let bytes = Bytes::from([&[1], &(gzip.len() as u32).to_be_bytes()[..], &gzip].concat());
        let found = said(&in_pieces(&bytes, 50), true, Compression::Gzip).unwrap();
        assert_eq!((&found.id[..], found.is_final), (&b"r-3"[..], Some(true)));
        assert_eq!(said(&in_pieces(&bytes, 50), true, Compression::Unknown), Some(Said::default()));
    }

    proptest! {
        /// Pods are somebody's programs too.
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..60, flag in 0_u8..2) {
            let bytes = Bytes::from([&[flag], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat());
            prop_assert!(said(&in_pieces(&bytes, size), true, Compression::Gzip).is_some());
        }
    }
}
