//! Scripts as their callers see them.

use super::*;
use crate::client::Client;
use crate::command::{self, lookup};
use crate::engine::Engine;

/// An engine and one who sends it commands.
pub(super) struct Caller {
    pub(super) engine: Engine,
    client: Client,
}

impl Caller {
    pub(super) fn new() -> Caller {
        Caller { engine: Engine::new(7, None), client: Client::new(1) }
    }

    pub(super) fn with(limits: Limits) -> Caller {
        let mut caller = Caller::new();
        caller.engine.scripts = Scripts::new(limits);
        caller
    }

    pub(super) fn send(&mut self, args: &[&[u8]]) -> Reply {
        let command = lookup(args[0]).expect("a command");
        command::run(&mut Context { engine: &mut self.engine, client: &mut self.client }, command, args)
    }

    pub(super) fn eval(&mut self, script: &str) -> Reply {
        self.send(&[b"eval", script.as_bytes(), b"0"])
    }

    /// The text of the string, or of the error, that `script` answers.
    pub(super) fn text(&mut self, script: &str) -> String {
        match self.eval(script) {
            Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Reply::Error(text) => text.into_owned(),
            other => format!("{other:?}"),
        }
    }
}

fn bulk(text: &str) -> Reply {
    Reply::bulk(text)
}

/// A caller that moves from Redis reads the same types out of the same script, or its code breaks. This would catch a
/// conversion that differs: each kind of value of Lua, as its caller gets it.
#[test]
fn what_a_script_returns_is_converted_as_redis_does_it() {
    let mut caller = Caller::new();
    let cases = [
        ("return 'text'", bulk("text")),
        ("return 3.99", Reply::Int(3)),
        ("return -3.99", Reply::Int(-3)),
        ("return true", Reply::Int(1)),
        ("return false", Reply::Null),
        ("return nil", Reply::Null),
        ("return", Reply::Null),
        ("return function() end", Reply::Null),
        ("return {1, 'two', {3}}", Reply::Array(vec![Reply::Int(1), bulk("two"), Reply::Array(vec![Reply::Int(3)])])),
        ("return {1, nil, 3}", Reply::Array(vec![Reply::Int(1)])),
        ("return {ok = 'FINE'}", Reply::Status("FINE".into())),
        ("return {err = 'MY bad'}", Reply::error("MY bad")),
        ("return redis.status_reply('FINE')", Reply::Status("FINE".into())),
        ("return redis.error_reply('MY bad')", Reply::error("MY bad")),
        ("return redis.error_reply('bad')", Reply::error("ERR bad")),
        ("return {double = 1.5}", Reply::Double(1.5)),
        ("return {big_number = '123'}", Reply::BigNumber(b"123".to_vec())),
        ("return {map = {a = 1}}", Reply::Map(vec![(bulk("a"), Reply::Int(1))])),
        ("return {set = {a = true}}", Reply::Set(vec![bulk("a")])),
        ("redis.setresp(3) return true", Reply::Bool(true)),
        ("redis.setresp(3) return redis.call('get', 'none') == nil", Reply::Bool(true)),
        ("return redis.call('get', 'none') == false", Reply::Int(1)),
        ("return {verbatim_string = {format = 'txt', string = 'x'}}", Reply::Verbatim("txt", b"x".to_vec())),
    ];
    for (script, expected) in cases {
        assert_eq!(caller.eval(script), expected, "{script}");
    }
}

/// A script is called with its keys and arguments and works on the data of its caller's database. This would catch one that
/// is lent the wrong engine, or an engine that does not come back.
#[test]
fn a_script_works_on_the_data_of_its_caller() {
    let mut caller = Caller::new();
    let script = b"redis.call('set', KEYS[1], ARGV[1]) return {#KEYS, #ARGV, redis.call('get', KEYS[1])}";
    let reply = caller.send(&[b"eval", script, b"1", b"key", b"value", b"more"]);
    assert_eq!(reply, Reply::Array(vec![Reply::Int(1), Reply::Int(2), bulk("value")]));
    assert_eq!(caller.send(&[b"get", b"key"]), bulk("value"));

    let digest = digest_of_text(script);
    let hex = hex_of_digest(&digest);
    assert_eq!(
        caller.send(&[b"script", b"exists", hex.as_bytes(), b"ab"]),
        Reply::Array(vec![Reply::Int(1), Reply::Int(0)])
    );
    let reply = caller.send(&[b"evalsha", hex.to_uppercase().as_bytes(), b"1", b"key", b"again"]);
    assert_eq!(reply, Reply::Array(vec![Reply::Int(1), Reply::Int(1), bulk("again")]));
    caller.send(&[b"script", b"flush"]);
    let reply = caller.send(&[b"evalsha", hex.as_bytes(), b"1", b"key", b"again"]);
    assert_eq!(reply, Reply::error("NOSCRIPT No matching script. Please use EVAL."));
}

/// Callers match on the texts of errors. This would catch one that differs from Redis's: each way in which a script can
/// fail, with its place.
#[test]
fn errors_are_worded_as_redis_words_them() {
    let mut caller = Caller::new();
    let cases = [
        ("return redis.call('nosuch')", "ERR Unknown Redis command called from script script: SHA, on @user_script:1."),
        (
            "\nreturn redis.call('get')",
            "ERR Wrong number of args calling Redis command from script script: SHA, on @user_script:2.",
        ),
        (
            "return redis.call('eval', 'return 1', 0)",
            "ERR This Redis command is not allowed from script script: SHA, on @user_script:1.",
        ),
        (
            "return redis.call()",
            "ERR Please specify at least one argument for this redis lib call script: SHA, on @user_script:1.",
        ),
        (
            "return redis.call('get', {})",
            "ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.",
        ),
        (
            "return foo",
            "ERR user_script:1: Script attempted to access nonexistent global variable 'foo' script: SHA, on @user_script:1.",
        ),
        ("foo = 1", "ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1."),
        (
            "local x = nil; x.y = 1",
            "ERR user_script:1: attempt to index local 'x' (a nil value) script: SHA, on @user_script:1.",
        ),
        ("error('mine')", "ERR user_script:1: mine script: SHA, on @user_script:1."),
        ("error({err = 'MY own'})", "MY own script: SHA, on @user_script:1."),
        (
            "table.insert(nil, 1)",
            "ERR user_script:1: bad argument #1 to 'insert' (table expected, got nil) script: SHA, on @user_script:1.",
        ),
        ("return x x", "ERR Error compiling script (new function): user_script:1: '<eof>' expected near 'x'"),
        ("return redis.pcall('get')", "ERR Wrong number of args calling Redis command from script"),
        ("redis.setresp(4)", "ERR RESP version must be 2 or 3. script: SHA, on @user_script:1."),
        ("return redis.sha1hex()", "ERR wrong number of arguments script: SHA, on @user_script:1."),
    ];
    for (script, expected) in cases {
        let expected = expected.replace("SHA", &hex_of_digest(&digest_of_text(script.as_bytes())));
        assert_eq!(caller.text(script), expected, "{script}");
    }
    let keys = |caller: &mut Caller, count: &[u8]| caller.send(&[b"eval", b"return 1", count]);
    assert_eq!(keys(&mut caller, b"1"), Reply::error("ERR Number of keys can't be greater than number of args"));
    assert_eq!(keys(&mut caller, b"-1"), Reply::error("ERR Number of keys can't be negative"));
    assert_eq!(keys(&mut caller, b"x"), Reply::error("ERR value is not an integer or out of range"));
}
