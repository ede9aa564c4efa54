//! Lua's patterns, for where Lua's own matcher could take for ever.
//!
//! That one is a loop in C which counts as one instruction: `('a'):rep(5000):find('.-.-.-.-b')` takes hours in it, and
//! nothing can end them. So `prelude.lua` lets it do what is short whatever the text says, and sends the rest here, where
//! the steps are counted and the script is asked whether it must end. It finds what Lua 5.1's finds, byte for byte.

use mlua::{Lua, LuaString, MultiValue, Value};

use super::raised::Raised;
use super::watch::Watch;

/// Captures in one pattern, as in Lua.
const MOST_CAPTURES: usize = 32;
/// Calls within calls: a pattern has one for each of its repetitions and captures, and this thread's stack has an end. Lua
/// 5.4 has 200.
const DEEPEST: usize = 250;
/// Steps between two looks at whether the script must end: some milliseconds.
const EVERY: u64 = 1 << 20;

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Malformed(&'static str),
    MustEnd,
}

type Found = Result<Option<usize>, Problem>;

/// What a pair of parentheses caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capture {
    Open(usize),
    Place(usize),
    Text(usize, usize),
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; MOST_CAPTURES],
    level: usize,
    depth: usize,
    steps: u64,
    watch: Option<&'a Watch>,
}

/// The first match of `pattern` in `text` from the byte `from`: its beginning, its end, what it caught. `^` is an anchor
/// where it `is_anchor`, and else itself.
pub(super) fn find(
    lua: &Lua,
    (text, pattern, from, is_anchor): (LuaString, LuaString, i64, bool),
    watch: &Watch,
) -> mlua::Result<MultiValue> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let mut matcher = Matcher::new(&text, &pattern, Some(watch));
    let from = usize::try_from(from - 1).unwrap_or(0).min(text.len());
    let Some((first, last)) = matcher.search(from, is_anchor).map_err(|problem| raised(lua, problem))? else {
        return Ok(MultiValue::from_vec(vec![Value::Nil]));
    };
    let mut answer = vec![Value::Integer(first as i64 + 1), Value::Integer(last as i64)];
    for capture in &matcher.captures[..matcher.level] {
        answer.push(match *capture {
            Capture::Open(_) => return Err(raised(lua, Problem::Malformed("unfinished capture"))),
            Capture::Place(at) => Value::Integer(at as i64 + 1),
            Capture::Text(from, to) => Value::String(lua.create_string(&text[from..to])?),
        });
    }
    Ok(MultiValue::from_vec(answer))
}

/// The first place of `needle` in `text` from the byte `from`, in linear time.
pub(super) fn find_plain(_: &Lua, (text, needle, from): (LuaString, LuaString, i64)) -> mlua::Result<Option<i64>> {
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let from = usize::try_from(from - 1).unwrap_or(0).min(text.len());
    Ok(memchr::memmem::find(&text[from..], &needle).map(|at| (from + at) as i64 + 1))
}

fn raised(lua: &Lua, problem: Problem) -> mlua::Error {
    match problem {
        Problem::Malformed(text) => Raised::text(lua, text),
        Problem::MustEnd => mlua::Error::runtime("the script must end"),
    }
}

impl<'a> Matcher<'a> {
    fn new(text: &'a [u8], pattern: &'a [u8], watch: Option<&'a Watch>) -> Matcher<'a> {
        // In 5.1 a pattern ends at its first zero, as all of C's strings.
        let pattern = &pattern[..memchr::memchr(0, pattern).unwrap_or(pattern.len())];
        Matcher { text, pattern, captures: [Capture::Open(0); MOST_CAPTURES], level: 0, depth: 0, steps: 0, watch }
    }

    fn search(&mut self, from: usize, is_anchor: bool) -> Result<Option<(usize, usize)>, Problem> {
        let is_anchored = is_anchor && self.pattern.first() == Some(&b'^');
        for first in from..=self.text.len() {
            self.level = 0;
            if let Some(last) = self.matched(first, usize::from(is_anchored))? {
                return Ok(Some((first, last)));
            }
            if is_anchored {
                break;
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<(), Problem> {
        self.steps += 1;
        let is_over = self.steps.is_multiple_of(EVERY) && self.watch.is_some_and(|watch| watch.must_end().is_some());
        if is_over { Err(Problem::MustEnd) } else { Ok(()) }
    }

    /// The end of the match of the pattern from `p` on, at the text's byte `s`.
    fn matched(&mut self, s: usize, p: usize) -> Found {
        if self.depth == DEEPEST {
            return Err(Problem::Malformed("pattern too complex"));
        }
        self.depth += 1;
        let found = self.matched_here(s, p);
        self.depth -= 1;
        found
    }

    fn matched_here(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            match self.pattern[p..] {
                [] => return Ok(Some(s)),
                [b'(', b')', ..] => return self.opened(Capture::Place(s), s, p + 2),
                [b'(', ..] => return self.opened(Capture::Open(s), s, p + 1),
                [b')', ..] => return self.closed(s, p + 1),
                [b'$'] => return Ok((s == self.text.len()).then_some(s)),
                [b'%', b'b', ref rest @ ..] => {
                    let &[open, close, ..] = rest else { return Err(Problem::Malformed("unbalanced pattern")) };
                    let Some(end) = self.balanced(s, open, close)? else { return Ok(None) };
                    (s, p) = (end, p + 4);
                }
                [b'%', b'f', ..] => {
                    let Some(end) = self.frontier(s, p + 2)? else { return Ok(None) };
                    p = end;
                }
                [b'%', digit @ b'0'..=b'9', ..] => {
                    let Some(end) = self.repeated(s, digit)? else { return Ok(None) };
                    (s, p) = (end, p + 2);
                }
                _ => {
                    let end = self.class_end(p)?;
                    let is_match = self.is_one(s, p, end);
                    match self.pattern.get(end) {
                        Some(b'*') => return self.most(s, p, end),
                        Some(b'+') => return if is_match { self.most(s + 1, p, end) } else { Ok(None) },
                        Some(b'-') => return self.least(s, p, end),
                        Some(b'?') => {
                            if is_match && let Some(found) = self.matched(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        _ if is_match => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn opened(&mut self, capture: Capture, s: usize, p: usize) -> Found {
        let slot = self.captures.get_mut(self.level).ok_or(Problem::Malformed("too many captures"))?;
        *slot = capture;
        self.level += 1;
        let found = self.matched(s, p)?;
        if found.is_none() {
            self.level -= 1;
        }
        Ok(found)
    }

    fn closed(&mut self, s: usize, p: usize) -> Found {
        let open = (0..self.level).rev().find_map(|at| match self.captures[at] {
            Capture::Open(from) => Some((at, from)),
            _ => None,
        });
        let (at, from) = open.ok_or(Problem::Malformed("invalid pattern capture"))?;
        self.captures[at] = Capture::Text(from, s);
        let found = self.matched(s, p)?;
        if found.is_none() {
            self.captures[at] = Capture::Open(from);
        }
        Ok(found)
    }

    /// As many of the class at `p` as there are, and then fewer, until the rest matches.
    fn most(&mut self, s: usize, p: usize, end: usize) -> Found {
        let mut count = 0;
        while self.is_one(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        for count in (0..=count).rev() {
            if let Some(found) = self.matched(s + count, end + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// As few of the class at `p` as are needed for the rest to match.
    fn least(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.matched(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.is_one(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn balanced(&mut self, s: usize, open: u8, close: u8) -> Found {
        if self.text.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for at in s + 1..self.text.len() {
            self.step()?;
            let byte = self.text[at];
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// The end of the set behind `%f`, where the text goes from without it to within it at `s`.
    fn frontier(&self, s: usize, p: usize) -> Found {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(Problem::Malformed("missing '[' after '%f' in pattern"));
        }
        let end = self.class_end(p)?;
        let byte = |at: Option<usize>| at.and_then(|at| self.text.get(at)).copied().unwrap_or(0);
        let is_there = !self.is_in_set(byte(s.checked_sub(1)), p, end) && self.is_in_set(byte(Some(s)), p, end);
        Ok(is_there.then_some(end))
    }

    /// The same text as a capture once more.
    fn repeated(&mut self, s: usize, digit: u8) -> Found {
        let at = usize::from(digit).checked_sub(usize::from(b'1')).filter(|at| *at < self.level);
        let Some((from, to)) = at.and_then(|at| match self.captures[at] {
            Capture::Text(from, to) => Some((from, to)),
            // Of no length here, though 5.1 reads it as a length of its own and never finds it.
            Capture::Place(_) | Capture::Open(_) => None,
        }) else {
            return if at.is_some_and(|at| matches!(self.captures[at], Capture::Place(_))) {
                Ok(None)
            } else {
                Err(Problem::Malformed("invalid capture index"))
            };
        };
        self.steps += (to - from) as u64 / 16;
        let is_same = self.text[s..].starts_with(&self.text[from..to]);
        Ok(is_same.then_some(s + (to - from)))
    }

    /// Where the class that begins at `p` ends.
    fn class_end(&self, p: usize) -> Result<usize, Problem> {
        match self.pattern[p] {
            b'%' if p + 1 == self.pattern.len() => Err(Problem::Malformed("malformed pattern (ends with '%')")),
            b'%' => Ok(p + 2),
            b'[' => {
                let mut at = p + 1 + usize::from(self.pattern.get(p + 1) == Some(&b'^'));
                // What stands first belongs to the set, a bracket too.
                loop {
                    let byte = self.pattern.get(at).ok_or(Problem::Malformed("malformed pattern (missing ']')"))?;
                    at += if *byte == b'%' && at + 1 < self.pattern.len() { 2 } else { 1 };
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the text's byte `s` is of the class from `p` to `end`.
    fn is_one(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(byte) = self.text.get(s).copied() else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => is_of_class(byte, self.pattern[p + 1]),
            b'[' => self.is_in_set(byte, p, end),
            own => own == byte,
        }
    }

    fn is_in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let is_negated = self.pattern.get(p + 1) == Some(&b'^');
        let mut set = &self.pattern[p + 1 + usize::from(is_negated)..end - 1];
        loop {
            let (is_member, length) = match *set {
                [] => return is_negated,
                [b'%', class, ..] => (is_of_class(byte, class), 2),
                [low, b'-', high, ..] => ((low..=high).contains(&byte), 3),
                [own, ..] => (own == byte, 1),
            };
            if is_member {
                return !is_negated;
            }
            set = &set[length..];
        }
    }
}

/// As C's functions tell it where the locale is C's.
fn is_of_class(byte: u8, class: u8) -> bool {
    let is_member = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_member != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use mlua::Function;
    use proptest::prelude::*;

    use super::*;

    fn ours(text: &[u8], pattern: &[u8]) -> Result<Option<Vec<String>>, String> {
        // As Lua's own find does, and the one in `prelude.lua`: what has nothing special in it is looked for as it stands.
        let seen = pattern.split(|byte| *byte == 0).next().unwrap_or_default();
        if !seen.iter().any(|byte| b"^$*+?.([%-".contains(byte)) {
            let found = memchr::memmem::find(text, pattern);
            return Ok(found.map(|at| vec![(at + 1).to_string(), (at + pattern.len()).to_string()]));
        }
        let mut matcher = Matcher::new(text, pattern, None);
        let shown = |bytes: &[u8]| format!("{bytes:?}");
        match matcher.search(0, true) {
            Err(Problem::Malformed(text)) => Err(text.to_string()),
            Err(Problem::MustEnd) => Err("must end".into()),
            Ok(None) => Ok(None),
            Ok(Some((first, last))) => {
                let mut all = vec![(first + 1).to_string(), last.to_string()];
                for capture in &matcher.captures[..matcher.level] {
                    all.push(match *capture {
                        Capture::Open(_) => return Err("unfinished capture".into()),
                        Capture::Place(at) => (at + 1).to_string(),
                        Capture::Text(from, to) => shown(&text[from..to]),
                    });
                }
                Ok(Some(all))
            }
        }
    }

    fn theirs(find: &Function, lua: &Lua, text: &[u8], pattern: &[u8]) -> Result<Option<Vec<String>>, String> {
        let args = (lua.create_string(text).unwrap(), lua.create_string(pattern).unwrap());
        match find.call::<MultiValue>(args) {
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().replace("runtime error: ", "")),
            Ok(values) if values.front().is_none_or(Value::is_nil) => Ok(None),
            Ok(values) => {
                let shown = values.iter().map(|value| match value {
                    Value::String(text) => format!("{:?}", &*text.as_bytes()),
                    other => other.to_string().unwrap_or_default(),
                });
                Ok(Some(shown.collect()))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
        /// A script that works on Redis must find the same here, whichever of the two matchers it is that looks. This
        /// would catch any difference: Lua's own finds in the same short text.
        #[test]
        fn what_is_found_is_what_lua_finds(
            text in prop::collection::vec(prop::sample::select(&b"ab1 ]^-%(x\0"[..]), 0..12),
            pattern in prop::collection::vec(prop::sample::select(&b"ab.%%%awdsfb[[]]()^$*+-?-12x\0"[..]), 0..10),
        ) {
            let lua = Lua::new();
            let find: Function = lua.globals().get::<mlua::Table>("string").unwrap().get("find").unwrap();
            // A position that is caught and repeated reads beyond the text in 5.1.
            prop_assume!(!pattern.windows(2).any(|pair| pair == b"()") || !pattern.windows(2).any(|pair| matches!(pair, [b'%', b'1' | b'2'])));
            prop_assert_eq!(ours(&text, &pattern), theirs(&find, &lua, &text, &pattern));
        }
    }

    /// The same by hand, for what chance seldom makes.
    #[test]
    fn captures_sets_and_frontiers_are_lua_s() {
        let lua = Lua::new();
        let find: Function = lua.globals().get::<mlua::Table>("string").unwrap().get("find").unwrap();
        for (text, pattern) in [
            ("key = value", "^(%w+)%s*=%s*(%w+)$"),
            ("THE (quick) fox", "%((%a+)%)"),
            ("THE (quick) fox", "%f[%a]%a+%f[%A]"),
            ("f(a(b)c)d", "%b()"),
            ("hello hello", "(%w+) %1"),
            ("  x", "^%s*()x()"),
            ("[]]", "[]]+"),
            ("a-b", "[a%-]+"),
            ("x^y", "[%^]"),
            ("x^y", "x^y"),
            ("aXb", "%u"),
            ("abc", "b%"),
            ("abc", "[a"),
            ("abc", "(b"),
            ("abc", "b)"),
            ("abc", "%f"),
            ("abc", "%b("),
            ("abc", "%1"),
        ] {
            let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
            assert_eq!(ours(text, pattern), theirs(&find, &lua, text, pattern), "{}", String::from_utf8_lossy(pattern));
        }
        let many = "()".repeat(33);
        assert_eq!(ours(b"", many.as_bytes()), Err("too many captures".into()));
        assert_eq!(ours(b"aaaa", "a?".repeat(10_000).as_bytes()), Ok(Some(vec!["1".into(), "4".into()])));
        let deep = "a?".repeat(10_000);
        assert_eq!(ours("a".repeat(10_000).as_bytes(), deep.as_bytes()), Err("pattern too complex".into()));
    }
}
