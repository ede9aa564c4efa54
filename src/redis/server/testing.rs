//! What tests of commands share: an engine, a client, and commands as one line.

use crate::client::Client;
use crate::command::{Context, resolve, run};
use crate::engine::Engine;
use crate::live::LiveSet;
use crate::reply::Reply;

/// One client of one engine.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) client: Client,
}

impl Bench {
    pub(crate) fn new(live: Option<Box<dyn LiveSet>>) -> Bench {
        Bench { engine: Engine::new(1, live), client: Client::new(7) }
    }

    /// What the words of `line`, which spaces part, are answered.
    pub(crate) fn run(&mut self, line: &str) -> Reply {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run_args(&args)
    }

    /// What `args` are answered.
    pub(crate) fn run_args(&mut self, args: &[&[u8]]) -> Reply {
        let context = &mut Context { engine: &mut self.engine, client: &mut self.client };
        resolve(args).map_or_else(|refusal| refusal, |command| run(context, command, args))
    }

    /// The same as text: elements between spaces, nested ones in brackets, `nil` for nothing.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        text(&self.run(line))
    }
}

/// `reply` as [`Bench::ask`] has it.
pub(crate) fn text(reply: &Reply) -> String {
    let all = |replies: &[Reply]| {
        let texts = replies.iter().map(|reply| match reply {
            Reply::Array(_) => format!("[{}]", text(reply)),
            _ => text(reply),
        });
        texts.collect::<Vec<_>>().join(" ")
    };
    match reply {
        Reply::Status(text) | Reply::Error(text) => text.to_string(),
        Reply::Int(number) => number.to_string(),
        Reply::Bulk(bytes) | Reply::Verbatim(_, bytes) | Reply::BigNumber(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Reply::Null | Reply::NullArray => "nil".into(),
        Reply::Array(replies) | Reply::Set(replies) => all(replies),
        Reply::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
        }
        Reply::Double(number) => crate::args::shown(*number),
        Reply::Bool(truth) => truth.to_string(),
        Reply::Silent => String::new(),
    }
}
