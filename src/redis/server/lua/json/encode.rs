//! Values of Lua as JSON.

use mlua::{Table, Value};

use super::{DEEPEST, Invalid, Settings};
use crate::lua::{Watch, number};

/// What it makes of `value`, or why it cannot. A table that stands in many places is written in each, so that two dozen of
/// them make a text without end: it goes on up to `most_bytes` and for as long as `watch` lets it.
pub(super) fn encode(value: &Value, settings: Settings, most_bytes: usize, watch: &Watch) -> Result<Vec<u8>, String> {
    let mut encoder = Encoder { settings, most_bytes, watch, tables: 0, out: Vec::new(), scratch: String::new() };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

/// Tables between two looks at whether the script must end.
const EVERY: u64 = 1000;

struct Encoder<'a> {
    settings: Settings,
    most_bytes: usize,
    watch: &'a Watch,
    tables: u64,
    out: Vec<u8>,
    scratch: String,
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        match value {
            Value::Nil => self.push(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => self.push(b"null"),
            Value::Boolean(true) => self.push(b"true"),
            Value::Boolean(false) => self.push(b"false"),
            Value::Integer(number) => self.number(*number as f64),
            Value::Number(number) => self.number(*number),
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Table(table) => self.table(table, depth + 1),
            other => Err(refusal(other, "type not supported")),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.out.len() + bytes.len() > self.most_bytes {
            return Err("not enough memory".into());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn number(&mut self, number: f64) -> Result<(), String> {
        match self.settings.encode_invalid {
            Invalid::Refused if !number.is_finite() => {
                return Err("Cannot serialise number: must not be NaN or Inf".into());
            }
            Invalid::Written if number.is_nan() => return self.push(b"nan"),
            Invalid::Null if !number.is_finite() => return self.push(b"null"),
            _ => {}
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        number::general(number, self.settings.precision as usize, &mut text);
        let pushed = self.push(text.as_bytes());
        self.scratch = text;
        pushed
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        self.push(b"\"")?;
        let mut plain = 0;
        for (at, byte) in text.iter().enumerate() {
            let escaped: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                b'\x08' => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                b'\x0c' => b"\\f",
                b'\r' => b"\\r",
                0..0x20 | 0x7f => b"",
                _ => continue,
            };
            self.push(&text[plain..at])?;
            plain = at + 1;
            if escaped.is_empty() {
                self.push(format!("\\u{byte:04x}").as_bytes())?;
            } else {
                self.push(escaped)?;
            }
        }
        self.push(&text[plain..])?;
        self.push(b"\"")
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), String> {
        if depth > DEEPEST || depth as i64 > self.settings.encode_depth {
            return Err(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        self.tables += 1;
        if self.tables.is_multiple_of(EVERY) && self.watch.must_end().is_some() {
            return Err("the script must end".into());
        }
        match self.list_length(table)? {
            Some(length) if length > 0 => self.list(table, length, depth),
            _ => self.object(table, depth),
        }
    }

    /// The highest index of a table that is a list.
    fn list_length(&self, table: &Table) -> Result<Option<i64>, String> {
        let (mut most, mut items) = (0i64, 0i64);
        for pair in table.pairs::<Value, Value>() {
            let (Value::Integer(index @ 1..), _) = pair.map_err(|error| error.to_string())? else {
                return Ok(None);
            };
            most = most.max(index);
            items += 1;
        }
        let Settings { sparse_converts, sparse_ratio, sparse_safe, .. } = self.settings;
        if sparse_ratio > 0 && most > items.saturating_mul(sparse_ratio) && most > sparse_safe {
            return if sparse_converts {
                Ok(None)
            } else {
                Err("Cannot serialise table: excessively sparse array".into())
            };
        }
        Ok(Some(most))
    }

    fn list(&mut self, table: &Table, length: i64, depth: usize) -> Result<(), String> {
        for index in 1..=length {
            self.push(if index == 1 { b"[" } else { b"," })?;
            self.value(&table.raw_get(index).map_err(|error| error.to_string())?, depth)?;
        }
        self.push(b"]")
    }

    fn object(&mut self, table: &Table, depth: usize) -> Result<(), String> {
        self.push(b"{")?;
        for (pair, at) in table.pairs::<Value, Value>().zip(0..) {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            self.push(if at == 0 { b"" } else { b"," })?;
            self.key(&key)?;
            self.push(b":")?;
            self.value(&value, depth)?;
        }
        self.push(b"}")
    }

    fn key(&mut self, key: &Value) -> Result<(), String> {
        match key {
            Value::String(text) => return self.text(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {}
            other => return Err(refusal(other, "table key must be a number or string")),
        }
        self.push(b"\"")?;
        self.value(key, 0)?;
        self.push(b"\"")
    }
}

fn refusal(value: &Value, problem: &str) -> String {
    let kind = match value {
        Value::LightUserData(_) | Value::Error(_) | Value::UserData(_) => "userdata",
        other => other.type_name(),
    };
    format!("Cannot serialise {kind}: {problem}")
}
