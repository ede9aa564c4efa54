//! JSON as values of Lua.

use mlua::{LightUserData, Lua, LuaString, Value};

use super::{DEEPEST, Settings};
use crate::lua::raised::Raised;

/// What stands in the text next.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ListBegin,
    ListEnd,
    Text,
    Number(f64),
    Truth(bool),
    Null,
    Colon,
    Comma,
    End,
    Wrong(&'static str),
}

impl Token {
    /// As cjson names it in its errors.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ListBegin => "T_ARR_BEGIN",
            Token::ListEnd => "T_ARR_END",
            Token::Text => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Truth(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Wrong(problem) => problem,
        }
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    settings: Settings,
    /// What was read so far.
    at: usize,
    /// Where the token begins that was read last, or where it is wrong.
    token_at: usize,
    /// The text of the last [`Token::Text`], without its escapes.
    scratch: Vec<u8>,
}

/// The one value that `text` holds.
pub(super) fn decode(lua: &Lua, text: &[u8], settings: Settings) -> mlua::Result<Value> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raised::text(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder { lua, text, settings, at: 0, token_at: 0, scratch: Vec::new() };
    let first = decoder.token();
    let value = decoder.value(&first, 0)?;
    match decoder.token() {
        Token::End => Ok(value),
        token => Err(decoder.unexpected("the end", &token)),
    }
}

impl Decoder<'_> {
    fn value(&mut self, token: &Token, depth: usize) -> mlua::Result<Value> {
        Ok(match token {
            Token::Text => Value::String(self.lua.create_string(&self.scratch)?),
            Token::Number(number) => Value::Number(*number),
            Token::Truth(truth) => Value::Boolean(*truth),
            Token::Null => Value::LightUserData(LightUserData(std::ptr::null_mut())),
            Token::ObjectBegin => self.object(depth + 1)?,
            Token::ListBegin => self.list(depth + 1)?,
            other => return Err(self.unexpected("value", other)),
        })
    }

    fn descend(&self, depth: usize) -> mlua::Result<()> {
        if depth <= DEEPEST && depth as i64 <= self.settings.decode_depth {
            return Ok(());
        }
        let problem = format!("Found too many nested data structures ({depth}) at character {}", self.at);
        Err(Raised::text(self.lua, &problem))
    }

    fn object(&mut self, depth: usize) -> mlua::Result<Value> {
        self.descend(depth)?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if token == Token::ObjectEnd {
            return Ok(Value::Table(table));
        }
        loop {
            if token != Token::Text {
                return Err(self.unexpected("object key string", &token));
            }
            let key: LuaString = self.lua.create_string(&self.scratch)?;
            match self.token() {
                Token::Colon => {}
                other => return Err(self.unexpected("colon", &other)),
            }
            let first = self.token();
            table.raw_set(key, self.value(&first, depth)?)?;
            match self.token() {
                Token::ObjectEnd => return Ok(Value::Table(table)),
                Token::Comma => token = self.token(),
                other => return Err(self.unexpected("comma or object end", &other)),
            }
        }
    }

    fn list(&mut self, depth: usize) -> mlua::Result<Value> {
        self.descend(depth)?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if token == Token::ListEnd {
            return Ok(Value::Table(table));
        }
        for index in 1i64.. {
            table.raw_set(index, self.value(&token, depth)?)?;
            match self.token() {
                Token::ListEnd => break,
                Token::Comma => token = self.token(),
                other => return Err(self.unexpected("comma or array end", &other)),
            }
        }
        Ok(Value::Table(table))
    }

    fn unexpected(&self, expected: &str, found: &Token) -> mlua::Error {
        let problem = format!("Expected {expected} but found {} at character {}", found.name(), self.token_at + 1);
        Raised::text(self.lua, &problem)
    }

    /// The byte at `at`; 0 where the text ends, as in C.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn wrong(&mut self, problem: &'static str) -> Token {
        self.token_at = self.at;
        Token::Wrong(problem)
    }

    fn token(&mut self) -> Token {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let simple = match self.byte(self.at) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ListBegin,
            b']' => Token::ListEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return Token::End,
            b'"' => return self.string(),
            _ => return self.word(),
        };
        self.at += 1;
        simple
    }

    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let words: [(&[u8], Token); 3] =
            [(b"true", Token::Truth(true)), (b"false", Token::Truth(false)), (b"null", Token::Null)];
        if let Some((word, token)) = words.into_iter().find(|(word, _)| rest.starts_with(word)) {
            self.at += word.len();
            return token;
        }
        let is_strange = is_strange_number(rest);
        match rest[0] {
            b'-' | b'0'..=b'9' if is_strange && !self.settings.decode_invalid => self.wrong("invalid number"),
            b'-' | b'0'..=b'9' => self.number(),
            b'i' | b'I' | b'n' | b'N' | b'+' if is_strange && self.settings.decode_invalid => self.number(),
            _ => self.wrong("invalid token"),
        }
    }

    fn number(&mut self) -> Token {
        match number_at(&self.text[self.at..]) {
            Some((number, length)) => {
                self.at += length;
                Token::Number(number)
            }
            None => self.wrong("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        self.scratch.clear();
        loop {
            let plain = self.text[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let length = plain.unwrap_or(self.text.len() - self.at);
            self.scratch.extend_from_slice(&self.text[self.at..self.at + length]);
            self.at += length;
            match self.byte(self.at) {
                b'"' => {
                    self.at += 1;
                    return Token::Text;
                }
                b'\\' => {
                    if let Err(problem) = self.escape() {
                        return self.wrong(problem);
                    }
                }
                _ => return self.wrong("unexpected end of string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let plain = match self.byte(self.at + 1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => b'\x08',
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => b'\x0c',
            b'r' => b'\r',
            b'u' => return self.unicode().ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        self.scratch.push(plain);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or a pair of them.
    fn unicode(&mut self) -> Option<()> {
        let first = self.hex(self.at + 2)?;
        let (code, length) = match first {
            0xd800..0xdc00 => {
                if self.byte(self.at + 6) != b'\\' || self.byte(self.at + 7) != b'u' {
                    return None;
                }
                let second = self.hex(self.at + 8).filter(|second| second & 0xfc00 == 0xdc00)?;
                (0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff), 12)
            }
            code => (code, 6),
        };
        // A low surrogate alone is no character.
        let mut utf8 = [0; 4];
        self.scratch.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut utf8).as_bytes());
        self.at += length;
        Some(())
    }

    fn hex(&self, at: usize) -> Option<u32> {
        (at..at + 4).try_fold(0, |sum, at| Some(sum * 16 + char::from(self.byte(at)).to_digit(16)?))
    }
}

/// Whether JSON would not have such a number, though C reads it: a plus, zeros in front, hexadecimal, infinity, NaN.
fn is_strange_number(text: &[u8]) -> bool {
    let is_plus = text.first() == Some(&b'+');
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let starts = |word: &[u8]| digits.len() >= word.len() && digits[..word.len()].eq_ignore_ascii_case(word);
    match digits {
        [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
        _ => is_plus || starts(b"inf") || starts(b"nan"),
    }
}

/// The number that C's `strtod` reads at the start of `text`, and its length.
fn number_at(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let negative = text.first() == Some(&b'-');
    let signed = |number: f64| if negative { -number } else { number };
    let rest = &text[sign..];
    let starts = |word: &[u8]| rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word);
    let named = [(&b"infinity"[..], f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)];
    if let Some((word, number)) = named.into_iter().find(|(word, _)| starts(word)) {
        return Some((signed(number), sign + word.len()));
    }
    if starts(b"0x") {
        let digits = rest[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let value = rest[2..2 + digits].iter().filter_map(|byte| char::from(*byte).to_digit(16));
        let value = value.fold(0.0, |sum, digit| sum * 16.0 + f64::from(digit));
        return Some((signed(value), sign + if digits == 0 { 1 } else { 2 + digits }));
    }
    let digits = |from: usize| rest[from.min(rest.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = digits(0);
    let mut has_digits = length > 0;
    if rest.get(length) == Some(&b'.') {
        let decimals = digits(length + 1);
        has_digits |= decimals > 0;
        length += 1 + decimals;
    }
    if !has_digits {
        return None;
    }
    if matches!(rest.get(length), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(rest.get(length + 1), Some(b'-' | b'+')));
        let exponent = digits(length + 1 + exponent_sign);
        length += if exponent > 0 { 1 + exponent_sign + exponent } else { 0 };
    }
    let number = std::str::from_utf8(&rest[..length]).ok()?.parse().ok()?;
    Some((signed(number), sign + length))
}
