//! Patterns of KEYS, SCAN and their kin: `*`, `?`, `[a-c]`, `[^a]`, `\` before what is meant as itself.
//!
//! Byte for byte as Redis's `stringmatchlen`, odd cases too: a class without its end ends with the pattern, a range may
//! stand backwards, bytes of a range are signed. Where a part behind a `*` fails, only the last `*` takes one byte more, as
//! an earlier one that did could find nothing else: at worst the two lengths are multiplied, however many `*` there are.

/// Whether `pattern` describes all of `text`.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    // What follows the last `*`, and the text that it was tried at.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            if rest.is_empty() {
                return true;
            }
            pattern = rest;
            retry = Some((pattern, text));
            continue;
        }
        match (one(pattern, text.first()), text) {
            (Some(rest), [_, others @ ..]) => (pattern, text) = (rest, others),
            _ if text.is_empty() && pattern.is_empty() => return true,
            _ => {
                let Some((behind, [_, others @ ..])) = retry else { return false };
                // The text is used up: fewer bytes will not do for what did not match with more.
                if text.is_empty() {
                    return false;
                }
                (pattern, text) = (behind, others);
                retry = Some((behind, others));
            }
        }
    }
}

/// What is left of `pattern` (which does not begin with `*`) behind the part that describes `byte`; none where it does not.
fn one<'a>(pattern: &'a [u8], byte: Option<&u8>) -> Option<&'a [u8]> {
    let byte = *byte?;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', rest @ ..] => class(rest, byte).and_then(|(is_in, rest)| (!is_in).then_some(rest)),
        [b'[', rest @ ..] => class(rest, byte).and_then(|(is_in, rest)| is_in.then_some(rest)),
        [b'\\', meant, rest @ ..] | [meant, rest @ ..] => (*meant == byte).then_some(rest),
    }
}

/// Whether `byte` is in the class that `pattern` begins with, and what follows its `]`.
fn class(mut pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let mut is_in = false;
    loop {
        pattern = match pattern {
            [b'\\', meant, rest @ ..] => {
                is_in |= *meant == byte;
                rest
            }
            [b']', rest @ ..] => return Some((is_in, rest)),
            [] => return Some((is_in, pattern)),
            [start, b'-', end, rest @ ..] => {
                let (start, end, byte) = (*start as i8, *end as i8, byte as i8);
                is_in |= (start.min(end)..=start.max(end)).contains(&byte);
                rest
            }
            [meant, rest @ ..] => {
                is_in |= *meant == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// The same pattern picks the same keys as in Redis, whose tests and documents have these.
    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        for (pattern, text, is_match) in [
            ("*", "anything", true),
            ("", "", true),
            ("*", "", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\?llo", "h?llo", true),
            ("h\\?llo", "hello", false),
            ("a*", "a", true),
            ("a**", "a", true),
            ("a*b", "a", false),
            ("*b*c", "abcbcb", false),
            ("*b*c", "abcbcbc", true),
            ("[ab", "b", true),
            ("[^ab", "b", false),
            ("[]a]", "a", false),
            ("[\\]]", "]", true),
            ("foo\\", "foo\\", true),
            ("*foo:*bar?", "foo:x:bary", true),
            ("a?", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_match, "{pattern} {text}");
        }
    }

    /// One client sends KEYS with fifty stars: tried one by one, each would double the work. This test would not end.
    #[test]
    fn many_stars_take_no_longer_than_the_lengths_multiplied() {
        let pattern = "a*".repeat(50) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 10_000]));
    }
}
