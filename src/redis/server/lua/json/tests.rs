//! cjson as scripts see it.

use crate::lua::Limits;
use crate::lua::tests::Caller;

/// A caller's log entries are JSON that other services read. This would catch a value that is written otherwise than
/// Redis's cjson writes it: each kind, and each rule about tables.
#[test]
fn values_are_written_as_cjson_writes_them() {
    let mut caller = Caller::new();
    let cases = [
        ("{}", "{}"),
        ("{1, 2, 3}", "[1,2,3]"),
        ("{1, nil, 3}", "[1,null,3]"),
        ("{[1] = 'a', [3] = 'c'}", r#"["a",null,"c"]"#),
        ("{a = 1}", r#"{"a":1}"#),
        ("{[1.5] = true}", r#"{"1.5":true}"#),
        ("{[0] = 'x'}", r#"{"0":"x"}"#),
        ("{[-1] = 'x'}", r#"{"-1":"x"}"#),
        ("cjson.null", "null"),
        ("{cjson.null, false}", "[null,false]"),
        ("1/3", "0.33333333333333"),
        ("12345678901234567890", "1.2345678901235e+19"),
        ("100", "100"),
        ("-0.5", "-0.5"),
        (r#"'a"b\\c/d\n\0\127é'"#, r#""a\"b\\c\/d\n\u0000\u007fé""#),
    ];
    for (value, expected) in cases {
        assert_eq!(caller.text(&format!("return cjson.encode({value})")), expected, "{value}");
    }
    let refused = [
        ("{[1000] = 1}", "Cannot serialise table: excessively sparse array"),
        ("{[true] = 1}", "Cannot serialise boolean: table key must be a number or string"),
        ("print_nothing == nil or tostring", "Script attempted to access nonexistent global variable 'print_nothing'"),
        ("tostring", "Cannot serialise function: type not supported"),
        ("0/0", "Cannot serialise number: must not be NaN or Inf"),
    ];
    for (value, expected) in refused {
        let text = caller.text(&format!("return cjson.encode({value})"));
        assert!(text.starts_with(&format!("ERR user_script:1: {expected} script: ")), "{value}: {text}");
    }
}

/// What callers store is read back in scripts. This would catch JSON that is understood otherwise than by Redis's cjson,
/// or refused in other words.
#[test]
fn json_is_read_as_cjson_reads_it() {
    let mut caller = Caller::new();
    let cases = [
        ("[1, 2.5, -3e2, 0x10, 007]", "[1,2.5,-300,16,7]"),
        (r#"{"a": [true, false, null, {}]}"#, r#"{"a":[true,false,null,{}]}"#),
        (r#"" \u00e9\ud83d\ude00 \n\t\/ ""#, "\" é😀 \\n\\t\\/ \""),
        ("  7  ", "7"),
        ("[]", "{}"),
    ];
    for (text, expected) in cases {
        let script = format!("return cjson.encode(cjson.decode([==[{text}]==]))");
        assert_eq!(caller.text(&script), expected, "{text}");
    }
    let refused = [
        ("", "Expected value but found T_END at character 1"),
        ("[1,]", "Expected value but found T_ARR_END at character 4"),
        ("{1:2}", "Expected object key string but found T_NUMBER at character 2"),
        (r#"{"a" 1}"#, "Expected colon but found T_NUMBER at character 6"),
        (r#"{"a":1 "b"}"#, "Expected comma or object end but found T_STRING at character 8"),
        ("[1 2]", "Expected comma or array end but found T_NUMBER at character 4"),
        ("1 2", "Expected the end but found T_NUMBER at character 3"),
        ("truth", "Expected value but found invalid token at character 1"),
        (r#""\x""#, "Expected value but found invalid escape code at character 2"),
        (r#""\ud800""#, "Expected value but found invalid unicode escape code at character 2"),
        (r#""ab"#, "Expected value but found unexpected end of string at character 4"),
        ("-", "Expected value but found invalid number at character 1"),
    ];
    for (text, expected) in refused {
        let answer = caller.text(&format!("local fine, problem = pcall(cjson.decode, [==[{text}]==]) return problem"));
        assert_eq!(answer, expected, "{text}");
    }
}

/// A script that nests without end, or says one table a million times, must get an error and nothing more. This would
/// catch a stack that overflows and a text that takes all memory.
#[test]
fn what_is_nested_too_deeply_or_too_often_is_refused() {
    let mut caller = Caller::with(Limits { memory_bytes: 1 << 20, ..Limits::default() });
    let deep = "local t = {} for _ = 1, 5000 do t = {t} end cjson.encode_max_depth(100000) return cjson.encode(t)";
    assert!(caller.text(deep).contains("Cannot serialise, excessive nesting (257)"));
    let text = "cjson.decode_max_depth(100000) return cjson.decode(string.rep('[', 5000))";
    assert!(caller.text(text).contains("Found too many nested data structures (257) at character 257"));
    let wide = "local t = {1} for _ = 1, 60 do t = {t, t} end return cjson.encode(t)";
    assert!(caller.text(wide).contains("not enough memory"));
    assert_eq!(caller.text("cjson.encode_max_depth(3) return cjson.encode({{{1}}})"), "[[[1]]]");
    assert!(caller.text("return cjson.encode({{{{1}}}})").contains("excessive nesting (4)"), "it stays as it was set");
}
