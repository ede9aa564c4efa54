//! A walk over the fields of a protobuf message, in whatever pieces it comes, that keeps the few it was sent for.

use std::io::{self, Write};

use smallvec::SmallVec;

use super::{MAX_ID, Parameters, Peek};

/// A name longer than this shares the nameless model anyway.
const MAX_NAME: u64 = 256;
/// All parameters of one request together; a request with more is passed on, and none of them are looked at.
const MAX_PARAMETERS: usize = 16 << 10;
/// What stands from here on (inputs, outputs, tensors) is of no interest, and clients write fields in the order of their
/// numbers.
const TENSORS: u64 = 5;

/// Takes a message as a [`Write`] and refuses more, by an error, when it has seen what there is to see: so a decoder can
/// feed it.
#[derive(Debug)]
pub(super) struct Fields {
    at: At,
    name: SmallVec<[u8; 64]>,
    has_name: bool,
    id: SmallVec<[u8; 24]>,
    /// The fields of the parameters, keys and lengths and all.
    parameters: Vec<u8>,
    /// Bytes until the message ends.
    left: u64,
}

/// Where in a field the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Key(Varint),
    /// A varint's value, of no interest.
    Number(Varint),
    /// The length of a length-delimited field.
    Length(Varint, Field),
    Skip(u64),
    Keep(u64, Field),
    Done,
    /// No sense to be made of it.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Id,
    Parameter,
    Other,
}

/// A varint on its way in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Varint {
    value: u64,
    shift: u32,
}

impl Fields {
    pub(super) fn new(left: u64) -> Fields {
        let at = if left == 0 { At::Done } else { At::Key(Varint::default()) };
        Fields { at, name: SmallVec::new(), has_name: false, id: SmallVec::new(), parameters: Vec::new(), left }
    }

    pub(super) fn found(&self) -> Peek {
        if !self.has_name {
            return Peek::default();
        }
        let parameters = Parameters::of_fields(&self.parameters);
        Peek { name: self.name.clone(), id: self.id.clone(), parameters, bytes: 0 }
    }

    /// Looks at the start of `bytes`, returns how many it took.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match self.at {
            At::Skip(left) => {
                let taken = left.min(bytes.len() as u64);
                self.at = if taken == left { At::Key(Varint::default()) } else { At::Skip(left - taken) };
                taken as usize
            }
            At::Keep(left, field) => {
                let taken = left.min(bytes.len() as u64);
                self.keep(field, &bytes[..taken as usize]);
                self.at = if taken == left { self.kept(field) } else { At::Keep(left - taken, field) };
                taken as usize
            }
            At::Key(varint) => self.varint(varint, bytes[0], At::Key, Fields::key),
            At::Number(varint) => self.varint(varint, bytes[0], At::Number, |_, _| At::Key(Varint::default())),
            At::Length(varint, field) => {
                let more = |varint| At::Length(varint, field);
                self.varint(varint, bytes[0], more, |fields, length| fields.length(field, length))
            }
            At::Done | At::GaveUp => bytes.len(),
        }
    }

    fn varint(
        &mut self,
        varint: Varint,
        byte: u8,
        more: impl Fn(Varint) -> At,
        then: impl Fn(&mut Fields, u64) -> At,
    ) -> usize {
        let value = varint.value | u64::from(byte & 0x7f) << varint.shift;
        self.at = match byte & 0x80 {
            0 => then(self, value),
            // Ten bytes are the longest varint.
            _ if varint.shift >= 63 => At::GaveUp,
            _ => more(Varint { value, shift: varint.shift + 7 }),
        };
        1
    }

    /// What follows a field's key.
    fn key(&mut self, key: u64) -> At {
        match (key >> 3, key & 7) {
            (number, _) if number >= TENSORS && self.has_name => At::Done,
            (_, 0) => At::Number(Varint::default()),
            (_, 1) => At::Skip(8),
            (1, 2) => At::Length(Varint::default(), Field::Name),
            (3, 2) => At::Length(Varint::default(), Field::Id),
            (4, 2) => At::Length(Varint::default(), Field::Parameter),
            (_, 2) => At::Length(Varint::default(), Field::Other),
            (_, 5) => At::Skip(4),
            _ => At::GaveUp,
        }
    }

    /// What follows a field's length.
    fn length(&mut self, field: Field, length: u64) -> At {
        match field {
            Field::Name if length > MAX_NAME => At::GaveUp,
            Field::Id if length > MAX_ID => At::Skip(length),
            Field::Parameter if self.parameters.len() as u64 + length > MAX_PARAMETERS as u64 => {
                self.parameters.clear();
                At::Done
            }
            Field::Other => At::Skip(length),
            Field::Name | Field::Id => At::Keep(length, field),
            Field::Parameter => {
                self.parameters.push(4 << 3 | 2);
                prost::encoding::encode_varint(length, &mut self.parameters);
                At::Keep(length, field)
            }
        }
        .unless_empty(|| self.kept(field))
    }

    fn keep(&mut self, field: Field, bytes: &[u8]) {
        match field {
            Field::Name => self.name.extend_from_slice(bytes),
            Field::Id => self.id.extend_from_slice(bytes),
            Field::Parameter => self.parameters.extend_from_slice(bytes),
            Field::Other => {}
        }
    }

    /// A field that is kept is here as a whole.
    fn kept(&mut self, field: Field) -> At {
        self.has_name |= field == Field::Name;
        At::Key(Varint::default())
    }
}

impl At {
    /// `then` where nothing of the field is left to come.
    fn unless_empty(self, then: impl FnOnce() -> At) -> At {
        match self {
            At::Skip(0) | At::Keep(0, _) => then(),
            at => at,
        }
    }
}

impl Write for Fields {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = &bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))];
        self.left -= rest.len() as u64;
        while !rest.is_empty() && !matches!(self.at, At::Done | At::GaveUp) {
            rest = &rest[self.step(rest)..];
        }
        if matches!(self.at, At::Done | At::GaveUp) || self.left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
