//! The same for requests in JSON: the `parameters` of the object that an HTTP request's body is, or begins with.
//!
//! They may stand anywhere in it (stock clients write them last), so that a tensor that is spelled out before them has to be
//! read over. One in binary stands behind the object and is not waited for.

use std::future::poll_fn;
use std::io::{self, Write};

use http::{HeaderMap, HeaderValue, header};
use serde::Deserializer as _;
use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};
use serde_json::{Deserializer, Map, Value as Json};
use smallvec::SmallVec;
use tonic::Status;

use super::inflate::{Compression, Inflate, Progress};
use super::parameters::Value;
use super::{MAX_ID, Parameters, Peek, READ_AHEAD};
use crate::forward::body::{RequestBody, broken_off};

/// How long the object is, where tensors in binary follow it.
const HEAD_LENGTH: &str = "inference-header-content-length";

/// Reads ahead in the `body` of an inference of `model` as far as needed, and no further than [`READ_AHEAD`]; one that is no
/// longer than that as a whole, so that it can be offered to several pods, and holds no place at one while it comes. What makes
/// no sense has no parameters, for the pod to judge.
///
/// # Errors
/// CANCELLED where the caller went away, DEADLINE_EXCEEDED where it stopped.
pub(in crate::forward) async fn peek_json(
    body: &mut RequestBody,
    model: &str,
    headers: &HeaderMap,
) -> Result<Peek, Status> {
    let object = Object::new(number(headers, HEAD_LENGTH).unwrap_or(u64::MAX));
    let mut reading = match headers.get(header::CONTENT_ENCODING) {
        None => Some(Inflate::plain(object)),
        named => Inflate::compressed(Compression::named(named), object),
    };
    let announced = number(headers, header::CONTENT_LENGTH.as_str());
    let is_small = announced.is_some_and(|bytes| bytes <= READ_AHEAD as u64);
    let (mut seen, mut progress) = (0, Progress::More);
    while seen < READ_AHEAD && (progress == Progress::More || is_small) {
        let Some(piece) = poll_fn(|cx| body.poll_read_ahead(cx)).await else { break };
        let piece = piece.map_err(|error| broken_off(&error))?;
        seen += piece.len();
        if progress == Progress::More {
            progress = reading.as_mut().map_or(Progress::Done, |reading| reading.pass(&piece));
        }
    }
    poll_fn(|cx| body.look_for_end(cx)).await;
    let Found { id, parameters } = reading.map(|reading| reading.sink().found()).unwrap_or_default();
    let bytes = announced.unwrap_or(seen as u64);
    Ok(Peek { name: model.as_bytes().into(), id, parameters, bytes })
}

/// The number that the header `name` holds.
pub(in crate::forward) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name).map(HeaderValue::to_str)?.ok()?.parse().ok()
}

/// What an object says of its request, as far as anybody here asks.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Its id, where it stands before the parameters.
    id: SmallVec<[u8; 24]>,
    parameters: Parameters,
}

/// The beginning of a body. Refuses more, by an error, when it has seen what there is to see.
struct Object {
    text: Vec<u8>,
    /// How much of the body it can be.
    most: usize,
    /// At which length it is looked at again: each time there is twice as much, so that looking takes no longer than reading.
    again_at: usize,
    /// All that there is to find.
    found: Option<Found>,
}

impl Object {
    fn new(length: u64) -> Object {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(READ_AHEAD);
        Object { text: Vec::new(), most, again_at: 0, found: None }
    }

    fn found(&self) -> Found {
        self.found.clone().unwrap_or_else(|| look(&self.text).0)
    }
}

impl Write for Object {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.most - self.text.len());
        self.text.extend_from_slice(&bytes[..taken]);
        if self.text.len() >= self.again_at {
            let (found, is_all) = look(&self.text);
            self.found = is_all.then_some(found);
            self.again_at = 2 * self.text.len();
        }
        if self.found.is_some() || self.text.len() == self.most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the object says that `text` begins with, and whether more of it has nothing to add.
fn look(text: &[u8]) -> (Found, bool) {
    let (mut found, mut has_parameters) = (Found::default(), false);
    let top = TopLevel { found: &mut found, has_parameters: &mut has_parameters };
    let is_cut = match Deserializer::from_slice(text).deserialize_map(top) {
        Err(error) => error.is_eof(),
        Ok(()) => false,
    };
    // The whole object, no object, or the rest of one of no interest.
    (found, has_parameters || !is_cut)
}

/// Takes out of an object what it comes upon, as far as the parameters.
struct TopLevel<'a> {
    found: &'a mut Found,
    has_parameters: &'a mut bool,
}

enum Key {
    Id,
    Parameters,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let key = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(match &*key {
            "id" => Key::Id,
            "parameters" => Key::Parameters,
            _ => Key::Other,
        })
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an inference request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            match key {
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
                Key::Id => {
                    let id: Json = map.next_value()?;
                    let id = id.as_str().filter(|id| id.len() as u64 <= MAX_ID).unwrap_or_default();
                    self.found.id = id.as_bytes().into();
                }
                Key::Parameters => {
                    let values: Map<String, Json> = map.next_value()?;
                    let values = values.into_iter().filter_map(|(name, value)| Some((name, of(value)?)));
                    self.found.parameters = Parameters::new(values);
                    *self.has_parameters = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn of(value: Json) -> Option<Value> {
    match value {
        Json::Bool(flag) => Some(Value::Flag(flag)),
        Json::Number(number) => number.as_i128().map(Value::Number),
        Json::String(text) => Some(Value::Text(text)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Sequence, SequenceId};
    use super::*;

    /// What is found in `text` that comes in pieces of `size`, and how much of it was read.
    fn found(text: &str, length: u64, size: usize) -> (Parameters, usize) {
        let mut object = Object::new(length);
        let read = text.as_bytes().chunks(size).take_while(|piece| object.write_all(piece).is_ok()).count();
        (object.found().parameters, read * size)
    }

    /// They must be found however the bytes are cut, in front of tensors or behind them.
    #[test]
    fn parameters_are_found_anywhere_in_the_object_and_nowhere_else() {
        let parameters =
            r#""parameters": {"sequence_id": 7, "sequence_end": true, "priority": "2", "timeout": 1500, "x": 1.5}"#;
        let inputs = r#""inputs": [{"name": "A", "parameters": {"sequence_id": 9}, "data": [1, 2, "}"]}]"#;
        let sequence = Sequence { id: SequenceId::Number(7), start: false, end: true, is_known: true };
        for text in [format!("{{{inputs}, {parameters}}}rest"), format!("{{ {parameters}, {inputs}")] {
            for size in [1, 7, 1000] {
                let found = found(&text, u64::MAX, size).0;
                assert_eq!(found.sequence().as_ref(), Some(&sequence), "{text} by {size}");
                assert_eq!((found.priority(), found.timeout()), (2, Some(Duration::from_micros(1500))));
            }
        }
        assert_eq!(found(&format!("{{{inputs}}}"), u64::MAX, 5).0, Parameters::default());
    }

    /// What follows the object is tensors, which need not be there yet; nor need what follows the parameters.
    #[test]
    fn no_more_is_read_than_it_takes() {
        let (_, read) = found(&format!("{{}}{}", "x".repeat(100)), u64::MAX, 1);
        assert!(read < 5, "{read}");
        let (_, read) = found(&format!("{{\"parameters\":{{}},{}", "x".repeat(1000)), u64::MAX, 1);
        assert!(read < 40, "{read}");
        let (_, read) = found(&"[".repeat(1000), u64::MAX, 1);
        assert!(read < 5, "{read}");
        // The length that the head announces ends it, and so does the bound.
        assert_eq!(found(&format!("{{\"inputs\":[{}", " ".repeat(1000)), 100, 10).1, 90);
        let spelled_out = format!("{{\"inputs\":[{}", "1,".repeat(READ_AHEAD));
        assert!(found(&spelled_out, u64::MAX, 1000).1 <= READ_AHEAD);
    }

    /// It names the request in the access log, also where the object is too long to be read to its end.
    #[test]
    fn an_id_is_found_before_the_parameters() {
        let found = |text: &str| {
            let mut object = Object::new(u64::MAX);
            let _ = object.write_all(text.as_bytes());
            String::from_utf8(object.found().id.to_vec()).unwrap()
        };
        for (text, id) in [
            (r#"{"id":"x","inputs":[],"parameters":{"a":1}}"#, "x"),
            (r#"{"inputs":[],"id":"\u00e4"}"#, "ä"),
            (r#"{"id":"x","inputs":[{"data":[1,2"#, "x"),
            (r#"{"id":7}"#, ""),
            (r#"{"id":["x"]}"#, ""),
            (r#"{"inputs":[{"id":"x"}]}"#, ""),
            (r#"{"id":"x"#, ""),
        ] {
            assert_eq!(found(text), id, "{text}");
        }
        assert_eq!(found(&format!("{{\"id\":\"{}\"}}", "x".repeat(129))), "");
    }

    /// Strangers choose these bytes.
    #[test]
    fn nonsense_has_no_parameters() {
        for text in ["", "null", "[]", "{\"parameters\":[1]}", "{\"parameters\":7}", "{\"parameters\"", "\u{0}", "{{"] {
            assert_eq!(found(text, u64::MAX, 3).0, Parameters::default(), "{text}");
        }
    }
}
