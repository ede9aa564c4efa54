//! One connection: bytes come in, commands run, replies go out.
//!
//! It reads what there is, takes the lock once for a batch of commands, and writes their replies at once. While a client does
//! not take its replies, its requests are still read, because many clients write a whole pipeline before they read, but they
//! are not run: what waits is then what was asked, which is mostly shorter than what would be answered.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::blocked;
use crate::busy;
use crate::client::{Client, Wants};
use crate::clock::{unix_ms, unix_us};
use crate::command;
use crate::dispatch::dispatch;
use crate::engine::Engine;
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::peer::{News, Peer};
use crate::reply::Reply;
use crate::request::{Bounds, Progress, Request};
use crate::server::{Busy, Server};
use crate::settings::Settings;
use crate::slowlog;

/// Commands that run under one lock at most. More would make the others wait for as long.
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
    outbox: Outbox,
    limits: Limits,
    /// Whether it waits for elements, and until when (unix ms).
    waiting: Option<Option<i64>>,
    traffic: Traffic,
    /// Whether the client says nothing more.
    has_ended: bool,
    /// Whether replies wait to be taken, as others were told.
    is_behind: bool,
    /// What the server counts for its buffers at present.
    counted_bytes: usize,
    /// Whether the engine has forgotten it.
    has_left: bool,
}

/// Bytes since the engine was last told.
#[derive(Default)]
struct Traffic {
    read: u64,
    written: u64,
}

/// What of the settings a connection asks for without the lock.
struct Limits {
    bulk: usize,
    request_bytes: usize,
    reply_bytes: usize,
    all_bytes: usize,
    version: u64,
}

impl Limits {
    fn of(settings: &Settings) -> Limits {
        let bound = |bytes| if bytes == 0 { usize::MAX } else { bytes };
        Limits {
            bulk: settings.proto_max_bulk_len,
            request_bytes: settings.client_query_buffer_limit,
            reply_bytes: bound(settings.client_output_buffer_limit),
            all_bytes: bound(settings.maxmemory_clients),
            version: settings.version,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(server: Server, stream: S, peer: Arc<Peer>, settings: &Settings) -> Connection<S> {
        let mut client = Client::new(peer.id);
        client.is_authenticated = settings.requirepass.is_empty();
        Connection {
            server,
            stream,
            client,
            inbox: Inbox::new(),
            request: Request::default(),
            outbox: Outbox::default(),
            limits: Limits::of(settings),
            waiting: None,
            traffic: Traffic::default(),
            has_ended: false,
            is_behind: false,
            counted_bytes: 0,
            has_left: false,
            peer,
        }
    }

    /// Serves it to its end.
    pub(crate) async fn run(mut self) {
        let ended = self.turns().await;
        // Whatever ended it, there is nobody left to tell.
        let is_cut_off = ended.is_err_and(|error| error.kind() == io::ErrorKind::QuotaExceeded);
        self.server.registry().remove(self.client.id);
        let server = self.server.clone();
        server.enter(|engine| self.leave(engine, is_cut_off)).await;
    }

    async fn turns(&mut self) -> io::Result<()> {
        loop {
            let is_more = self.work().await?;
            let is_done = self.client.is_leaving || self.has_ended && !is_more;
            if is_done && self.outbox.len() == 0 {
                return Ok(());
            }
            self.exchange(is_more).await?;
        }
    }

    /// Runs what is there; whether more of it is.
    async fn work(&mut self) -> io::Result<bool> {
        while self.may_run() {
            let Some(length) = self.next_request()? else { return Ok(false) };
            let server = self.server.clone();
            match server.enter_unless_busy(|engine| self.batch(engine, length)).await {
                Ok(ran) => ran?,
                Err(Busy) if self.answer_while_busy(length) => {}
                Err(Busy) => server.enter(|engine| self.batch(engine, length)).await?,
            }
        }
        Ok(self.waiting.is_none() && !self.client.is_leaving)
    }

    fn may_run(&self) -> bool {
        self.waiting.is_none() && !self.client.is_leaving && self.outbox.len() < ENOUGH_BYTES
    }

    /// The length of the request that stands first, if it is whole.
    fn next_request(&mut self) -> io::Result<Option<usize>> {
        let bounds = Bounds { bulk: self.limits.bulk, is_stranger: !self.client.is_authenticated };
        match self.request.go_on(self.inbox.bytes(), bounds) {
            Progress::Whole(length) => Ok(Some(length)),
            Progress::Partial => {
                let queued = self.client.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
                let held = self.inbox.bytes().len() + self.request.overhead_bytes() + queued;
                if held > self.limits.request_bytes { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(None) }
            }
            Progress::Broken(text) => {
                self.outbox.add(&Reply::Error(text), self.client.protocol);
                self.client.is_leaving = true;
                Ok(None)
            }
        }
    }

    /// Answers the first request, if that can be done while a script runs for too long.
    fn answer_while_busy(&mut self, length: usize) -> bool {
        let args = self.request.args(self.inbox.bytes());
        let reply = if args.is_empty() {
            Some(Reply::Silent)
        } else {
            busy::answer(&mut self.client, &args, self.server.watch())
        };
        let Some(reply) = reply else { return false };
        drop(args);
        answer(&mut self.client, &mut self.outbox, &reply);
        self.inbox.consume(length);
        self.request.reset();
        true
    }

    /// Runs the first request, which is `length` bytes long, and those behind it.
    fn batch(&mut self, engine: &mut Engine, length: usize) -> io::Result<()> {
        let ran = self.requests(engine, length);
        engine.stats.read_bytes += std::mem::take(&mut self.traffic.read);
        engine.stats.written_bytes += std::mem::take(&mut self.traffic.written);
        self.note(engine.now_ms);
        ran
    }

    fn requests(&mut self, engine: &mut Engine, length: usize) -> io::Result<()> {
        let mut next = Some(length);
        let mut now_us = unix_us();
        for _ in 0..BATCH {
            let Some(length) = next else { break };
            now_us = self.one(engine, now_us);
            self.inbox.consume(length);
            self.request.reset();
            if engine.settings.version != self.limits.version {
                self.limits = Limits::of(&engine.settings);
            }
            if self.outbox.len() > self.limits.reply_bytes {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            if !self.may_run() {
                break;
            }
            next = self.next_request()?;
        }
        Ok(())
    }

    /// Runs the request that is whole, at `now_us`; when it ended.
    fn one(&mut self, engine: &mut Engine, now_us: i64) -> i64 {
        let args = self.request.args(self.inbox.bytes());
        if args.is_empty() {
            return now_us;
        }
        (engine.now_us, engine.now_ms) = (now_us, now_us / 1000);
        (self.client.inbox_bytes, self.client.inbox_capacity) = (self.inbox.bytes().len(), self.inbox.capacity());
        let reply = dispatch(&mut command::Context { engine, client: &mut self.client }, &args);
        let ended_us = unix_us();
        slowlog::took(&mut command::Context { engine, client: &mut self.client }, &args, ended_us - now_us);
        if let Some(wait) = self.client.wait.take() {
            self.waiting = Some(wait.until_ms);
            engine.blocked.add(&self.client, wait);
        } else {
            answer(&mut self.client, &mut self.outbox, &reply);
        }
        if !engine.ready.is_empty() {
            blocked::serve(engine);
        }
        ended_us
    }

    /// Tells others how it stands.
    fn note(&mut self, now_ms: i64) {
        (self.client.inbox_bytes, self.client.inbox_capacity) = (self.inbox.bytes().len(), self.inbox.capacity());
        let mut seen = self.peer.seen.lock();
        self.client.note(&mut seen);
        seen.last_ms = now_ms;
        seen.is_blocked = self.waiting.is_some();
    }

    /// Counts its buffers among those of all, and ends it where that is too much and it has a part in it.
    fn weigh(&mut self) -> io::Result<()> {
        let bytes = self.inbox.capacity() + self.outbox.capacity() + self.request.overhead_bytes();
        let queued = self.client.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        let bytes = bytes + queued;
        if bytes != self.counted_bytes {
            let all = self.server.weigh(self.counted_bytes, bytes);
            self.counted_bytes = bytes;
            if all > self.limits.all_bytes && bytes > 2 * ENOUGH_BYTES {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
        }
        Ok(())
    }

    /// Writes and reads until there is something to do.
    async fn exchange(&mut self, is_more: bool) -> io::Result<()> {
        self.weigh()?;
        let Some(until_ms) = self.waiting else {
            poll_fn(|cx| self.poll_exchange(cx, is_more)).await?;
            return Ok(());
        };
        let left = until_ms.map_or(Duration::MAX, |until| Duration::from_millis((until - unix_ms()).max(0) as u64));
        let answered = tokio::time::timeout(left, poll_fn(|cx| self.poll_exchange(cx, false))).await;
        let answered = match answered {
            Ok(answered) => answered?,
            Err(_) => {
                let id = self.client.id;
                self.server.enter(|engine| engine.blocked.give_up(id)).await
            }
        };
        // Where its time was over just when it was served, the answer is in the mail already.
        if let Some(reply) = answered {
            self.waiting = None;
            answer(&mut self.client, &mut self.outbox, &reply);
            self.note(unix_ms());
        }
        Ok(())
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, is_more: bool) -> Poll<io::Result<Option<Reply>>> {
        match self.peer.news(cx.waker()) {
            News::Killed => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            News::Answer(reply) => return Poll::Ready(Ok(Some(reply))),
            News::Rest => self.rest(),
            News::Nothing => {}
        }
        let is_written = self.poll_write(cx)?;
        if is_written && (is_more || self.client.is_leaving || self.has_ended) {
            return Poll::Ready(Ok(None));
        }
        self.poll_read(cx, is_written)
    }

    /// Writes what can be written now; whether that is all.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let before = self.traffic.written;
        let is_written = self.outbox.poll_write(cx, Pin::new(&mut self.stream), &mut self.traffic.written)?.is_ready();
        // Most replies are written at once, and nobody has to know of them.
        if self.is_behind || !is_written {
            let mut seen = self.peer.seen.lock();
            if self.traffic.written > before || !self.is_behind {
                seen.took_ms = unix_ms();
                seen.last_ms = seen.took_ms;
            }
            (seen.outbox_bytes, seen.outbox_capacity) = (self.outbox.len(), self.outbox.capacity());
            self.is_behind = !is_written;
        }
        Ok(is_written)
    }

    /// Reads what may be read now; ready when there may be something to run.
    fn poll_read(&mut self, cx: &mut Context<'_>, is_written: bool) -> Poll<io::Result<Option<Reply>>> {
        loop {
            if self.client.is_leaving || self.has_ended || self.inbox.bytes().len() > self.limits.request_bytes {
                return Poll::Pending;
            }
            let Poll::Ready(count) = self.inbox.poll_read(cx, Pin::new(&mut self.stream))? else {
                return Poll::Pending;
            };
            if count == 0 {
                // What it asked before is still answered: some say all they want to say and then listen.
                self.has_ended = true;
                let is_over = self.waiting.is_some();
                return Poll::Ready(if is_over { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) });
            }
            self.traffic.read += count as u64;
            if self.waiting.is_none() && is_written {
                return Poll::Ready(Ok(None));
            }
            // What comes from who waits, or does not take its replies, is kept for later.
            self.weigh()?;
        }
    }

    fn rest(&mut self) {
        self.inbox.rest();
        self.outbox.rest();
        let mut seen = self.peer.seen.lock();
        (seen.inbox_capacity, seen.outbox_capacity) = (self.inbox.capacity(), self.outbox.capacity());
    }
}

fn answer(client: &mut Client, outbox: &mut Outbox, reply: &Reply) {
    match client.wants {
        Wants::All => outbox.add(reply, client.protocol),
        Wants::AllButNext => client.wants = Wants::AllButThis,
        Wants::AllButThis => client.wants = Wants::All,
        Wants::Nothing => {}
    }
}

impl<S> Connection<S> {
    /// Leaves nothing behind. Does nothing the second time.
    fn leave(&mut self, engine: &mut Engine, is_cut_off: bool) {
        let (id, client) = (self.client.id, &mut self.client);
        if std::mem::replace(&mut self.has_left, true) {
            return;
        }
        engine.stats.cut_off += u64::from(is_cut_off);
        engine.blocked.give_up(id);
        for (db, key) in client.watching.drain() {
            engine.unwatch(db, &key, &client.is_stale);
        }
        if let Some(live) = &mut engine.live {
            live.closed(id);
        }
    }
}

impl<S> Drop for Connection<S> {
    /// The future that serves it may be dropped at any time.
    fn drop(&mut self) {
        self.server.weigh(self.counted_bytes, 0);
        self.server.registry().remove(self.client.id);
        if self.has_left {
            return;
        }
        let server = self.server.clone();
        server.enter_now(|engine| self.leave(engine, false));
    }
}
