//! The parameters of a request that say where or how soon it should run.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use plimsoll_proto::inference::InferParameter;
use plimsoll_proto::inference::infer_parameter::ParameterChoice;
use prost::Message;

/// How a place in a sequence is told: as parameters, and as headers that pass every proxy.
const ID: [&str; 2] = ["sequence_id", "sequence-id"];
const START: [&str; 2] = ["sequence_start", "sequence-start"];
const END: [&str; 2] = ["sequence_end", "sequence-end"];

/// What a request's `parameters` say, as far as anybody here asks. Empty for most requests, and then it holds nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::forward) struct Parameters {
    values: HashMap<String, Value>,
    /// The place in a sequence that metadata tell.
    metadata: Option<Box<Sequence>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::forward) enum Value {
    Flag(bool),
    Number(i128),
    Text(String),
}

/// A request's place in a sequence: requests that one instance of a model must see, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Sequence {
    pub(in crate::forward) id: SequenceId,
    pub(in crate::forward) start: bool,
    pub(in crate::forward) end: bool,
    /// Whether its pod knows of it, and refuses one that did not begin there.
    pub(in crate::forward) is_known: bool,
}

/// A correlation id. Triton keeps numbers and texts apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::forward) enum SequenceId {
    Number(u64),
    Text(Box<str>),
}

/// The `parameters` of a message, and nothing else of it.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(map = "string, message", tag = "4")]
    parameters: HashMap<String, InferParameter>,
}

impl Parameters {
    /// Those that are not told apart by their types in the text they came in.
    pub(in crate::forward) fn new(values: impl IntoIterator<Item = (String, Value)>) -> Parameters {
        Parameters { values: values.into_iter().collect(), metadata: None }
    }

    /// Those in the protobuf fields `bytes`; none where they are none.
    pub(super) fn of_fields(bytes: &[u8]) -> Parameters {
        if bytes.is_empty() {
            return Parameters::default();
        }
        let head = Head::decode(bytes).unwrap_or_default();
        Parameters::new(head.parameters.into_iter().filter_map(|(name, value)| Some((name, Value::of(value)?))))
    }

    pub(in crate::forward) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Takes the place in a sequence from a request's metadata where its parameters name none, in their words (`sequence_id`,
    /// `sequence_start`, `sequence_end`; also with hyphens, because proxies drop headers with underscores). A number is one, and
    /// `true` or `1` a flag that is set.
    pub(in crate::forward) fn heed(&mut self, headers: &HeaderMap) {
        let said = |[name, other]: [&str; 2]| headers.get(name).or_else(|| headers.get(other))?.to_str().ok();
        let Some(id) = said(ID).filter(|id| !matches!(*id, "" | "0") && !self.values.contains_key(ID[0])) else {
            return;
        };
        let id = id.parse().map_or_else(|_| SequenceId::Text(id.into()), SequenceId::Number);
        let is_set = |flag| matches!(said(flag), Some("true" | "1"));
        self.metadata = Some(Box::new(Sequence { id, start: is_set(START), end: is_set(END), is_known: false }));
    }

    /// The sequence it belongs to. An id of 0 or of no letters is none, as for Triton.
    pub(in crate::forward) fn sequence(&self) -> Option<Sequence> {
        if let Some(sequence) = &self.metadata {
            return Some(sequence.as_ref().clone());
        }
        let id = match self.get(ID[0])? {
            Value::Number(0) | Value::Flag(_) => return None,
            // Negative ones are what becomes of large ones in clients that know no unsigned number.
            Value::Number(number) => SequenceId::Number(*number as u64),
            Value::Text(text) if text.is_empty() => return None,
            Value::Text(text) => SequenceId::Text(text.as_str().into()),
        };
        let is_set = |name: &str| matches!(self.get(name), Some(Value::Flag(true)));
        Some(Sequence { id, start: is_set(START[0]), end: is_set(END[0]), is_known: true })
    }

    /// Triton's priority: 1 is served first, 0 as the model's configuration says.
    pub(in crate::forward) fn priority(&self) -> u64 {
        match self.get("priority") {
            Some(Value::Number(priority)) => u64::try_from(*priority).unwrap_or(0),
            Some(Value::Text(priority)) => priority.parse().unwrap_or(0),
            _ => 0,
        }
    }

    /// How long it may wait in the model's queue, if it says so (microseconds, 0 is for ever).
    pub(in crate::forward) fn timeout(&self) -> Option<Duration> {
        let us = match self.get("timeout")? {
            Value::Number(us) => u64::try_from(*us).ok()?,
            Value::Text(us) => us.parse().ok()?,
            Value::Flag(_) => return None,
        };
        (us > 0).then(|| Duration::from_micros(us))
    }
}

impl Value {
    fn of(value: InferParameter) -> Option<Value> {
        Some(match value.parameter_choice? {
            ParameterChoice::BoolParam(flag) => Value::Flag(flag),
            ParameterChoice::Int64Param(number) => Value::Number(number.into()),
            ParameterChoice::Uint64Param(number) => Value::Number(number.into()),
            ParameterChoice::StringParam(text) => Value::Text(text),
            ParameterChoice::DoubleParam(_) => return None,
        })
    }

    /// As text: what keys of affinity are compared by.
    pub(in crate::forward) fn text(&self) -> String {
        match self {
            Value::Flag(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        }
    }
}
