//! The fleet's shared Redis: it is asked for each pick, and told of each end.
//!
//! The published design of balancers in callers, with its known holes closed. A pick is one script there: the least loaded of the
//! pods that this node would pick itself, charged and logged in the same step (`scripts/`). Redis is asked for no longer
//! than the deadline; then the gossiped view decides, and what Redis may have charged is released. What is picked is charged
//! here as well, so that gossip goes on and the view is fresh whenever it is needed. Ends are told in batches, off the
//! request's way, by one task that keeps the connection too (`shared/keep.rs`). Nothing that Redis does makes a request fail.

mod counts;
mod keep;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use self::counts::{Counts, Why};
use super::book::{Book, Charge, Generation, RequestId, told_ms};
use super::ladder::{Ladder, LadderConfig, Step};
use super::link::{LinkError, Server};
use super::scripts::{Keys, Scripts};
use super::state::{StateOptions, StateView};
use crate::driver::clock;
use crate::driver::tls::TlsError;
use crate::observe::{Cost, Pod};
use crate::pick::{PickError, Picker, Request, Ticket};
use crate::time::Time;

/// Changes that wait to be told, at most: a second's worth of a busy node. Beyond, all that is in flight is told afresh, which
/// is less.
const MOST_CHANGES: usize = 10_000;
/// A Redis is lost to this node when it leaves; it waits no longer than this to say so.
const FAREWELL: Duration = Duration::from_millis(250);

/// See the module's description.
pub(crate) struct Shared {
    picker: Picker,
    tongue: Arc<Tongue>,
    options: StateOptions,
    inner: Mutex<Inner>,
    /// There is something for the keeper to do.
    changed: Arc<Notify>,
    counts: Counts,
    /// Whose turn it is among equals.
    turn: AtomicU64,
    /// Ends when the keeper does.
    kept: watch::Receiver<()>,
}

/// What this node says to Redis, and as whom.
struct Tongue {
    /// The node and its start.
    name: String,
    keys: Keys,
    scripts: Scripts,
}

impl Tongue {
    fn client(&self, generation: Generation) -> String {
        format!("{}:{}", self.name, generation.0)
    }
}

struct Inner {
    ladder: Ladder,
    book: Book,
    connection: Option<MultiplexedConnection>,
    /// What went wrong last, and whether the log has it.
    trouble: Option<String>,
    is_logged: bool,
    has_left: bool,
}

impl Shared {
    /// The shared state of the fleet called `cluster`, for the node called `name`, whose start is `start`. It is looked for in the
    /// background.
    ///
    /// # Errors
    /// [`TlsError`] where a certificate cannot be used.
    pub(crate) fn start(
        options: StateOptions,
        (cluster, name, start): (&str, &str, u64),
        picker: Picker,
    ) -> Result<Arc<Shared>, TlsError> {
        let files = (options.ca_file.clone(), options.shows.clone());
        let server = Server::new(options.redis.clone(), options.password_file.clone(), files)?;
        let ladder = LadderConfig { deadline: options.deadline, ..LadderConfig::default() };
        let keys = Keys::new(&options.prefix(cluster));
        let tongue = Tongue { name: format!("{name}:{start:016x}"), keys, scripts: Scripts::default() };
        let (alive, kept) = watch::channel(());
        let shared = Arc::new(Shared {
            picker,
            tongue: Arc::new(tongue),
            inner: Mutex::new(Inner {
                ladder: Ladder::new(ladder, clock::now()),
                book: Book::new(MOST_CHANGES),
                connection: None,
                trouble: None,
                is_logged: false,
                has_left: false,
            }),
            options,
            changed: Arc::default(),
            counts: Counts::default(),
            turn: AtomicU64::new(start),
            kept,
        });
        let keeper = keep::Keeper::new(&shared, server);
        tokio::spawn(async move {
            keeper.run().await;
            drop(alive);
        });
        Ok(shared)
    }

    /// A ticket by Redis's word, or by the view where it has none in time; and what Redis is told when it ends. Where a
    /// ticket is held already, it is exchanged for the one that Redis prefers.
    ///
    /// # Errors
    /// [`PickError`]; nothing is charged then.
    pub(crate) async fn pick(
        self: &Arc<Self>,
        request: &Request<'_>,
        held: Option<Ticket>,
    ) -> Result<(Ticket, Option<Told>), PickError> {
        let cost = self.picker.cost_of(request);
        // What is no work is nobody's load.
        if cost > Cost::ZERO
            && let Some((pod, asked)) = self.ask(request, cost).await
        {
            match self.taken(request, &pod, held) {
                Ok(ticket) => {
                    let told = asked.heeded(&ticket);
                    self.counts.answered.fetch_add(1, Relaxed);
                    return Ok((ticket, Some(told)));
                }
                Err(held) => {
                    self.counts.missed(Why::Unfit);
                    drop(asked);
                    return self.by_view(request, held);
                }
            }
        }
        self.by_view(request, held)
    }

    /// What Redis is told of a ticket that it did not choose.
    pub(crate) fn told(self: &Arc<Self>, ticket: &Ticket) -> Option<Told> {
        if ticket.cost() == Cost::ZERO {
            return None;
        }
        let mut inner = self.lock();
        let id = inner.book.next_id();
        inner.book.charged(charge(id, ticket));
        drop(inner);
        self.changed.notify_one();
        Some(Told { shared: self.clone(), id })
    }

    /// Who decides picks, and how that goes.
    pub(crate) fn view(&self) -> StateView {
        let inner = self.lock();
        let (steps_down, steps_up) = inner.ladder.steps();
        let view = StateView {
            mode: "redis",
            redis: self.options.redis.to_string(),
            rung: inner.ladder.rung().name(),
            steps_down,
            steps_up,
            in_flight: inner.book.in_flight(),
            waiting: inner.book.waiting(),
            last_trouble: inner.trouble.clone(),
            ..self.counts.view()
        };
        drop(inner);
        view
    }

    /// How long asking takes, as Prometheus reads it.
    pub(crate) fn write_ask_times(&self, text: &mut String) {
        self.counts.ask.write(
            text,
            "plimsoll_state_ask_seconds",
            "How long the shared Redis took to answer for a pick.",
        );
    }

    /// Tells Redis that this node goes, if Redis listens.
    pub(crate) async fn leave(&self) {
        self.lock().has_left = true;
        self.changed.notify_one();
        let _ = timeout(FAREWELL, self.kept.clone().changed()).await;
    }

    /// Asks Redis which of the pods that may take `request` is the least loaded. None where there is nothing to ask, or no
    /// answer.
    async fn ask(self: &Arc<Self>, request: &Request<'_>, cost: Cost) -> Option<(Arc<Pod>, Asked)> {
        let candidates = self.picker.may_take(clock::now(), request);
        // Where only one may take it, Redis is told and nobody waits.
        if candidates.len() < 2 {
            return None;
        }
        let Some((mut connection, asked)) = self.begin() else {
            self.counts.unasked.fetch_add(1, Relaxed);
            return None;
        };
        let Tongue { keys, scripts, .. } = &*self.tongue;
        let mut call = keys.call(&scripts.pick, &self.tongue.client(asked.generation));
        let turn = self.turn.fetch_add(1, Relaxed) & 0xffff_ffff;
        call.arg(asked.id.0).arg(told_ms(cost.as_ms()).to_string()).arg(turn).arg(candidates.len());
        for (pod, _) in &candidates {
            call.arg(pod.name());
        }
        let can = candidates[0].1;
        if candidates.iter().any(|(_, other)| *other != can) {
            call.arg(candidates.iter().map(|(_, can)| can.to_string()).collect::<Vec<_>>());
        }
        let began = clock::now();
        let answer = timeout(self.options.deadline, call.query_async::<usize>(&mut connection)).await;
        let now = clock::now();
        self.counts.ask.add(now.since(began).as_secs_f64() * 1e3);
        match answer {
            Ok(Ok(0)) => self.unknown(asked),
            Ok(Ok(position)) if position <= candidates.len() => {
                self.lock().ladder.answered();
                Some((candidates[position - 1].0.clone(), asked))
            }
            Ok(Ok(position)) => {
                self.missed(now, Why::Failed, format!("chose the pod at {position} of {}", candidates.len()))
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => self.unknown(asked),
            Ok(Err(error)) => self.missed(now, Why::Failed, LinkError::from(error).to_string()),
            Err(_) => self.missed(now, Why::Late, LinkError::Late(self.options.deadline).to_string()),
        }
    }

    /// An id to ask under, where there is somebody to ask.
    fn begin(self: &Arc<Self>) -> Option<(MultiplexedConnection, Asked)> {
        let mut inner = self.lock();
        if !inner.ladder.asks() {
            return None;
        }
        let (connection, generation) = (inner.connection.clone()?, inner.book.generation()?);
        let id = inner.book.next_id();
        self.counts.asked.fetch_add(1, Relaxed);
        Some((connection, Asked { shared: self.clone(), generation, id, is_open: true }))
    }

    /// Redis does not know who asked: it has lost what it knew, or took this node for dead. It is told anew, at once.
    fn unknown<T>(&self, mut asked: Asked) -> Option<T> {
        asked.is_open = false;
        self.counts.missed(Why::Unknown);
        let mut inner = self.lock();
        if inner.book.generation() == Some(asked.generation) {
            inner.book.lost();
        }
        drop(inner);
        self.changed.notify_one();
        None
    }

    fn missed<T>(&self, now: Time, why: Why, trouble: String) -> Option<T> {
        self.counts.missed(why);
        let mut inner = self.lock();
        let step = inner.ladder.missed(now);
        self.troubled(&mut inner, trouble, step);
        None
    }

    /// The connection is lost, or there is none.
    fn lost(&self, error: &LinkError) {
        let mut inner = self.lock();
        inner.connection = None;
        inner.book.lost();
        let step = inner.ladder.lost(clock::now());
        let first = !inner.is_logged && step.is_none();
        self.troubled(&mut inner, error.to_string(), step);
        if first {
            inner.is_logged = true;
            warn!(redis = %self.options.redis, "the shared Redis {error}: picks go by the gossiped view until it answers");
        }
    }

    fn troubled(&self, inner: &mut Inner, trouble: String, step: Option<Step>) {
        if step == Some(Step::Down) {
            inner.is_logged = true;
            warn!(redis = %self.options.redis, "the shared Redis {trouble}: picks go by the gossiped view");
            // A probe is due before the next heartbeat.
            self.changed.notify_one();
        }
        inner.trouble = Some(trouble);
    }

    /// The answer to a probe, in time or not.
    fn probed(&self, in_time: bool) {
        let mut inner = self.lock();
        if inner.ladder.probed(clock::now(), in_time) == Some(Step::Up) {
            inner.is_logged = false;
            info!(redis = %self.options.redis, "the shared Redis answers: picks ask it");
        }
    }

    /// The ticket that Redis wants; what is held, where this node cannot do so.
    fn taken(&self, request: &Request<'_>, pod: &Pod, held: Option<Ticket>) -> Result<Ticket, Option<Ticket>> {
        let now = clock::now();
        match held {
            Some(held) if held.pod().id() == pod.id() => Ok(held),
            held => match self.picker.pick_at(now, request, pod.id()) {
                Some(ticket) => {
                    if let Some(held) = held {
                        held.release(now);
                    }
                    Ok(ticket)
                }
                None => Err(held),
            },
        }
    }

    fn by_view(
        self: &Arc<Self>,
        request: &Request<'_>,
        held: Option<Ticket>,
    ) -> Result<(Ticket, Option<Told>), PickError> {
        let ticket = held.map_or_else(|| self.picker.pick(clock::now(), request), Ok)?;
        let told = self.told(&ticket);
        Ok((ticket, told))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is done under it is a few changes to maps; none leaves them half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn charge(id: RequestId, ticket: &Ticket) -> Charge {
    Charge { id, pod: ticket.pod().name().into(), cost_ms: told_ms(ticket.cost().as_ms()) }
}

/// A question that Redis may have acted on. Whoever does not heed the answer, or goes before there is one, has it released.
struct Asked {
    shared: Arc<Shared>,
    generation: Generation,
    id: RequestId,
    is_open: bool,
}

impl Asked {
    /// `ticket` is what Redis chose.
    fn heeded(mut self, ticket: &Ticket) -> Told {
        self.is_open = false;
        self.shared.lock().book.picked(self.generation, charge(self.id, ticket));
        Told { shared: self.shared.clone(), id: self.id }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_open {
            self.shared.lock().book.unheeded(self.generation, self.id);
            self.shared.changed.notify_one();
        }
    }
}

/// A request that Redis knows of, or will.
pub(crate) struct Told {
    shared: Arc<Shared>,
    id: RequestId,
}

impl Told {
    /// It ended; its pod works on it until then, where it does.
    pub(crate) fn end(self, remains: Option<Time>) {
        let mut inner = self.shared.lock();
        match remains {
            Some(until) => inner.book.remains(self.id, until),
            None => inner.book.ended(self.id),
        }
        drop(inner);
        self.shared.changed.notify_one();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("redis", &self.options.redis).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("id", &self.id).finish_non_exhaustive()
    }
}
