//! One connection: bytes come in, commands run, replies go out.
//!
//! It reads what there is, takes the lock once for a batch of commands, and writes their replies at once. It reads on while
//! replies wait to be taken, as Redis does, because many clients write a whole pipeline before they read; what waits is
//! bounded, and who goes beyond is cut off.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::blocked;
use crate::client::{Client, Wants};
use crate::clock::unix_ms;
use crate::command;
use crate::dispatch::dispatch;
use crate::encode::encode;
use crate::engine::Engine;
use crate::inbox::Inbox;
use crate::peer::{News, Peer};
use crate::reply::Reply;
use crate::request::{Bounds, Progress, Request};
use crate::server::Server;
use crate::settings::Settings;

/// Commands that run under one lock at most. Four times as many saved nothing that could be measured and make the others
/// wait for as long.
const BATCH: usize = 64;
/// Replies are written once so many bytes wait, even where further commands do.
const ENOUGH_BYTES: usize = 64 << 10;

/// One connection and all that belongs to it.
pub(crate) struct Connection<S> {
    server: Server,
    stream: S,
    peer: Arc<Peer>,
    client: Client,
    inbox: Inbox,
    request: Request,
    out: Outbox,
    limits: Limits,
    /// Waits for elements; until when, unix ms.
    waiting: Option<Option<i64>>,
}

/// What of the settings a connection asks for without the lock.
struct Limits {
    bulk: usize,
    request_bytes: usize,
    reply_bytes: usize,
}

impl Limits {
    fn of(settings: &Settings) -> Limits {
        Limits {
            bulk: settings.proto_max_bulk_len,
            request_bytes: settings.client_query_buffer_limit,
            reply_bytes: match settings.client_output_buffer_limit {
                0 => usize::MAX,
                bytes => bytes,
            },
        }
    }
}

/// Replies that are not yet written.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(server: Server, stream: S, peer: Arc<Peer>, settings: &Settings) -> Connection<S> {
        let mut client = Client::new(peer.id);
        client.is_authenticated = settings.requirepass.is_empty();
        Connection {
            server,
            stream,
            peer,
            client,
            inbox: Inbox::new(),
            request: Request::default(),
            out: Outbox::default(),
            limits: Limits::of(settings),
            waiting: None,
        }
    }

    /// Serves it to its end.
    pub(crate) async fn run(mut self) {
        // Whatever ends it, there is nobody left to tell.
        let _ = self.turn().await;
    }

    async fn turn(&mut self) -> io::Result<()> {
        loop {
            let is_more = self.work().await?;
            if self.client.is_leaving && self.out.waiting() == 0 {
                return Ok(());
            }
            self.exchange(is_more).await?;
        }
    }

    /// Runs what is there; whether more of it is.
    async fn work(&mut self) -> io::Result<bool> {
        while self.waiting.is_none() && !self.client.is_leaving && self.out.waiting() < ENOUGH_BYTES {
            let Some(length) = self.next_request()? else { return Ok(false) };
            let server = self.server.clone();
            server.enter(|engine| self.batch(engine, length)).await?;
        }
        Ok(self.waiting.is_none() && !self.client.is_leaving)
    }

    /// The length of the request that stands first, if it is whole.
    fn next_request(&mut self) -> io::Result<Option<usize>> {
        let bounds = Bounds { bulk: self.limits.bulk, is_stranger: !self.client.is_authenticated };
        match self.request.go_on(self.inbox.bytes(), bounds) {
            Progress::Whole(length) => Ok(Some(length)),
            Progress::Partial => {
                let held = self.inbox.bytes().len() + self.request.overhead_bytes();
                if held > self.limits.request_bytes { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(None) }
            }
            Progress::Broken(text) => {
                encode(&Reply::Error(text), self.client.protocol, &mut self.out.bytes);
                self.client.is_leaving = true;
                Ok(None)
            }
        }
    }

    /// Runs the first request, which is `length` bytes long, and those behind it.
    fn batch(&mut self, engine: &mut Engine, length: usize) -> io::Result<()> {
        let mut next = Some(length);
        for _ in 0..BATCH {
            let Some(length) = next else { break };
            self.one(engine);
            self.inbox.consume(length);
            self.request.reset();
            if self.out.waiting() > self.limits.reply_bytes {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            if self.client.is_leaving || self.waiting.is_some() || self.out.waiting() >= ENOUGH_BYTES {
                return Ok(());
            }
            next = self.next_request()?;
        }
        Ok(())
    }

    fn one(&mut self, engine: &mut Engine) {
        let reply = {
            let args = self.request.args(self.inbox.bytes());
            if args.is_empty() {
                return;
            }
            engine.now_ms = unix_ms();
            dispatch(&mut command::Context { engine, client: &mut self.client }, &args)
        };
        if let Some(wait) = self.client.wait.take() {
            self.waiting = Some(wait.until_ms);
            engine.blocked.add(&self.client, wait);
        }
        if !engine.ready.is_empty() {
            blocked::serve(engine);
        }
        self.answer(&reply);
    }

    fn answer(&mut self, reply: &Reply) {
        match self.client.wants {
            Wants::All => encode(reply, self.client.protocol, &mut self.out.bytes),
            Wants::AllButNext => self.client.wants = Wants::AllButThis,
            Wants::AllButThis => self.client.wants = Wants::All,
            Wants::Nothing => {}
        }
    }

    /// Writes and reads until there is something to do.
    async fn exchange(&mut self, is_more: bool) -> io::Result<()> {
        let Some(until_ms) = self.waiting else {
            let answer = poll_fn(|cx| self.poll_exchange(cx, is_more)).await?;
            debug_assert!(answer.is_none(), "an answer for who does not wait");
            return Ok(());
        };
        let left = until_ms.map_or(Duration::MAX, |until| Duration::from_millis((until - unix_ms()).max(0) as u64));
        let answered = tokio::time::timeout(left, poll_fn(|cx| self.poll_exchange(cx, false))).await;
        let answer = match answered {
            Ok(answer) => answer?,
            Err(_) => {
                let id = self.client.id;
                self.server.enter(|engine| engine.blocked.give_up(id)).await
            }
        };
        if let Some(reply) = answer {
            self.waiting = None;
            self.answer(&reply);
        }
        Ok(())
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, is_more: bool) -> Poll<io::Result<Option<Reply>>> {
        match self.peer.news(cx.waker()) {
            News::Killed => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            News::Answer(reply) => return Poll::Ready(Ok(Some(reply))),
            News::Nothing => {}
        }
        let is_written = self.poll_write(cx)?.is_ready();
        if is_written && (is_more || self.client.is_leaving) {
            return Poll::Ready(Ok(None));
        }
        if self.client.is_leaving || self.inbox.bytes().len() > self.limits.request_bytes {
            return Poll::Pending;
        }
        match ready!(self.inbox.poll_read(cx, Pin::new(&mut self.stream)))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            _ if self.waiting.is_some() => {
                // What comes from who waits is kept for later; this asks to be told of more.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(None)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Outbox { bytes, written } = &mut self.out;
        while *written < bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        if *written > 0 {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            bytes.clear();
            bytes.shrink_to(ENOUGH_BYTES);
            *written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        let (id, client) = (self.client.id, &mut self.client);
        self.server.enter_now(|engine| {
            engine.clients.remove(&id);
            engine.blocked.give_up(id);
            for (db, key) in client.watching.drain(..) {
                engine.unwatch(db, &key, &client.is_stale);
            }
            if let Some(live) = &mut engine.live {
                live.closed(id);
            }
        });
    }
}
