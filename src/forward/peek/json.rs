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
use tonic::Status;

use super::inflate::{Compression, Inflate, Progress};
use super::parameters::Value;
use super::{Parameters, Peek, READ_AHEAD};
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
    let parameters = reading.map(|reading| reading.sink().parameters()).unwrap_or_default();
    let bytes = announced.unwrap_or(seen as u64);
    Ok(Peek { name: model.as_bytes().into(), parameters, bytes, ..Peek::default() })
}

/// The number that the header `name` holds.
pub(in crate::forward) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name).map(HeaderValue::to_str)?.ok()?.parse().ok()
}

/// The beginning of a body. Refuses more, by an error, when it has seen what there is to see.
struct Object {
    text: Vec<u8>,
    /// How much of the body it can be.
    most: usize,
    /// At which length it is looked at again: each time there is twice as much, so that looking takes no longer than reading.
    again_at: usize,
    found: Option<Parameters>,
}

impl Object {
    fn new(length: u64) -> Object {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(READ_AHEAD);
        Object { text: Vec::new(), most, again_at: 0, found: None }
    }

    fn parameters(&self) -> Parameters {
        self.found.clone().or_else(|| look(&self.text)).unwrap_or_default()
    }
}

impl Write for Object {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.most - self.text.len());
        self.text.extend_from_slice(&bytes[..taken]);
        if self.text.len() >= self.again_at {
            self.found = look(&self.text);
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

/// The parameters in the object that `text` begins with; none where more of it might have some.
fn look(text: &[u8]) -> Option<Parameters> {
    let mut found = None;
    match Deserializer::from_slice(text).deserialize_map(TopLevel(&mut found)) {
        Err(error) if found.is_none() && error.is_eof() => None,
        // The whole object, no object, or the rest of one of no interest.
        Ok(()) | Err(_) => Some(found.unwrap_or_default()),
    }
}

/// Takes the parameters out of an object as soon as it comes upon them.
struct TopLevel<'a>(&'a mut Option<Parameters>);

enum Key {
    Parameters,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let key = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(if key == "parameters" { Key::Parameters } else { Key::Other })
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
                Key::Parameters => {
                    let values: Map<String, Json> = map.next_value()?;
                    *self.0 =
                        Some(Parameters::new(values.into_iter().filter_map(|(name, value)| Some((name, of(value)?)))));
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
        (object.parameters(), read * size)
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

    /// Strangers choose these bytes.
    #[test]
    fn nonsense_has_no_parameters() {
        for text in ["", "null", "[]", "{\"parameters\":[1]}", "{\"parameters\":7}", "{\"parameters\"", "\u{0}", "{{"] {
            assert_eq!(found(text, u64::MAX, 3).0, Parameters::default(), "{text}");
        }
    }
}
