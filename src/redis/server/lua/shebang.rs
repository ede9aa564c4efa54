//! The first line of a script, where it says what the script may do: `#!lua flags=no-writes,allow-oom`.

/// What a script says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Whether it says anything: without, it is asked at each of its commands.
    pub(super) is_declared: bool,
    pub(super) no_writes: bool,
    pub(super) allow_oom: bool,
}

/// The flags of `text`, and how long its first line is where that is no Lua (its end belongs to the script, so that lines
/// keep their numbers).
pub(super) fn parse(text: &[u8]) -> Result<(Flags, usize), String> {
    if !text.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let end = text.iter().position(|byte| *byte == b'\n').ok_or("Invalid script shebang")?;
    let line = String::from_utf8_lossy(&text[..end]);
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(format!("Unexpected engine in script shebang: {engine}"));
    }
    let mut flags = Flags { is_declared: true, ..Flags::default() };
    for word in words {
        let Some(list) = word.strip_prefix("flags=") else {
            return Err(format!("Unknown lua shebang option: {word}"));
        };
        for flag in list.split(',').filter(|_| !list.is_empty()) {
            match flag {
                "no-writes" => flags.no_writes = true,
                "allow-oom" => flags.allow_oom = true,
                // About replicas and clusters, of which there are none here.
                "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                _ => return Err(format!("Unexpected flag in script shebang: {flag}")),
            }
        }
    }
    Ok((flags, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script that says it writes nothing and is not heard would fail where memory is full; one that mistypes a flag and
    /// is not told would do what it must not. This would catch both.
    #[test]
    fn the_first_line_is_understood_or_refused() {
        assert_eq!(parse(b"return 1"), Ok((Flags::default(), 0)));
        let declared = Flags { is_declared: true, ..Flags::default() };
        assert_eq!(parse(b"#!lua\nreturn 1"), Ok((declared, 5)));
        assert_eq!(parse(b"#!lua flags=\nreturn 1"), Ok((declared, 12)));
        let both = Flags { no_writes: true, allow_oom: true, ..declared };
        assert_eq!(parse(b"#!lua flags=no-writes,allow-oom,allow-stale\n"), Ok((both, 43)));
        for (text, problem) in [
            ("#!lua", "Invalid script shebang"),
            ("#!js\n", "Unexpected engine in script shebang: #!js"),
            ("#!lua badger=data\n", "Unknown lua shebang option: badger=data"),
            ("#!lua flags=no-writes,what?\n", "Unexpected flag in script shebang: what?"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(problem.to_string()), "{text}");
        }
    }
}
