//! The way over without a flag day: callers that balance over a Redis of their own, and callers on gossip, see each other.
//!
//! A bridge adds the fleet's gossiped load to the scores of their sorted set, and charges what is left of these scores as load
//! of its own node, so that all peers count it. What it has put there stands in a hash beside their set, so that it is taken
//! out again before theirs is read: nothing goes around. Of all nodes of a fleet that are told to, one at a time is the bridge;
//! it holds a lease, by its name and epoch, and another one goes on from the same hash when it is silent for [`LEASE`]. Bridges
//! of two fleets at one Redis have leases and hashes of their own, and are to each other as any other callers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use redis::Script;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::BridgeOptions;
use super::charges::Charges;
use super::link::{Link, LinkError, Server};
use crate::driver::clock;
use crate::driver::tls::TlsError;
use crate::node::Node;
use crate::pick::Picker;
use crate::time::Time;

/// How often both sides are told of each other. A request that is shorter than this is seen by chance; more often would cost a
/// Redis a thousandth of what it can do for nothing that picks notice.
const EVERY: Duration = Duration::from_millis(100);
/// A bridge that was silent for so long is replaced, and holds what it had read for charged no longer.
const LEASE: Duration = Duration::from_secs(3);
/// What a bridge has read counts no longer than this after it was read: less than the lease, so that two of them never charge
/// the same at one time.
const BELIEVED: Duration = Duration::from_millis(2500);
/// Who takes over does not put its view into their set at once: as long as a node that died may still be in views, what it had
/// read of theirs is in there too.
const SETTLES: Duration = Duration::from_secs(4);

/// A running bridge. Ends by [`Bridge::close`], or when it is dropped; only the first takes out what it had put.
#[derive(Debug)]
pub struct Bridge {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Bridge {
    /// Starts it for a node of `cluster`, on the runtime that it is called on.
    ///
    /// # Errors
    /// [`TlsError`] where a certificate cannot be used; nothing runs then.
    pub fn start(node: &Node, options: &BridgeOptions, cluster: &str) -> Result<Bridge, TlsError> {
        let files = (options.ca_file.clone(), None);
        let server = Server::new(options.redis.clone(), options.password_file.clone(), files)?;
        let (end, ended) = watch::channel(false);
        let key = &options.set.key;
        let keys = [
            key.clone(),
            format!("plimsoll:bridge:{cluster}:{{{key}}}:lease"),
            format!("plimsoll:bridge:{cluster}:{{{key}}}:put"),
        ];
        let mut turns = Turns {
            picker: node.picker().clone(),
            charges: Charges::new(node.picker().clone(), options.set.unit, &options.set.model),
            keys,
            // A node that starts again is another one, with nothing charged.
            token: format!(
                "{}/{:016x}",
                node.name(),
                clock::unix_seconds() << 16 | u64::from(std::process::id() & 0xffff)
            ),
            turn: Script::new(include_str!("scripts/bridge.lua")),
            leave: Script::new(include_str!("scripts/unbridge.lua")),
            holds_since: None,
            read_at: None,
            said: None,
        };
        let task = tokio::spawn(async move { turns.run(&server, ended).await });
        Ok(Bridge { end, task })
    }

    /// Takes out of their set what this fleet had put there, where this is the bridge, and ends.
    pub async fn close(self) {
        self.end.send_replace(true);
        // One that panicked is over too.
        let _ = self.task.await;
    }
}

/// What was said of it last, so that each change is said once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Bridges,
    StandsBy(String),
    Fails,
}

struct Turns {
    picker: Picker,
    charges: Charges,
    keys: [String; 3],
    token: String,
    turn: Script,
    leave: Script,
    /// Since when it holds the lease.
    holds_since: Option<Time>,
    /// When it last asked for what it was then told.
    read_at: Option<Time>,
    said: Option<Said>,
}

/// What one turn came to.
enum Turn {
    Held(Vec<(String, f64)>),
    Other(String),
}

impl Turns {
    async fn run(&mut self, server: &Server, mut ended: watch::Receiver<bool>) {
        let mut link: Option<Link> = None;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // An error: its handle was dropped.
                _ = ended.wait_for(|end| *end) => break,
                _ = ticks.tick() => {}
            }
            let asked_at = clock::now();
            match self.once(server, &mut link).await {
                Ok(turn) => self.took(turn, asked_at, server),
                Err(error) => {
                    link = None;
                    counter!("plimsoll_bridge_failures_total").increment(1);
                    self.say(Said::Fails, || warn!(%error, redis = %server.address(), "the bridge's Redis fails"));
                }
            }
            if self.read_at.is_some_and(|read| clock::now().since(read) > BELIEVED) {
                self.forget();
            }
        }
        if let (Some(link), true) = (&link, self.holds_since.is_some()) {
            let [theirs, lease, put] = &self.keys;
            let mut leave = self.leave.key(theirs);
            leave.key(lease).key(put).arg(&self.token);
            let left: Result<i64, LinkError> = link.run(&leave).await;
            if let Err(error) = left {
                warn!(%error, "the bridge could not take out what it had put; the next one will");
            }
        }
        self.forget();
    }

    async fn once(&self, server: &Server, link: &mut Option<Link>) -> Result<Turn, LinkError> {
        let link = match link {
            Some(link) => link,
            None => link.insert(server.connect().await?),
        };
        let [theirs, lease, put] = &self.keys;
        let settles = self.holds_since.is_none_or(|since| clock::now().since(since) < SETTLES);
        let mut call = self.turn.key(theirs);
        call.key(lease).key(put).arg(&self.token).arg(LEASE.as_millis() as u64).arg(u8::from(settles));
        for pod in self.picker.pods().iter() {
            call.arg(pod.name()).arg(self.charges.beside(pod));
        }
        let answer: Vec<String> = link.run(&call).await?;
        match answer.split_first() {
            Some((holder, [])) if !holder.is_empty() => Ok(Turn::Other(holder.clone())),
            Some((_, pairs)) => Ok(Turn::Held(
                pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse().unwrap_or(0.0))).collect(),
            )),
            None => Ok(Turn::Held(Vec::new())),
        }
    }

    fn took(&mut self, turn: Turn, asked_at: Time, server: &Server) {
        match turn {
            Turn::Other(holder) => {
                self.forget();
                let whom = holder.clone();
                self.say(Said::StandsBy(holder), || {
                    info!(bridge = whom, "another node is the bridge; this one stands by")
                });
            }
            Turn::Held(theirs) => {
                self.holds_since.get_or_insert(asked_at);
                self.read_at = Some(asked_at);
                self.say(Said::Bridges, || info!(redis = %server.address(), "this node is the bridge"));
                self.charge(theirs);
                gauge!("plimsoll_bridge_holds").set(1.0);
            }
        }
    }

    /// Charges what is theirs, and nothing where they have nothing any more.
    fn charge(&mut self, theirs: Vec<(String, f64)>) {
        let theirs: BTreeMap<String, f64> = theirs.into_iter().collect();
        for pod in self.picker.pods().iter() {
            let score = theirs.get(pod.name()).copied().unwrap_or(0.0);
            self.charges.set(pod.name(), Some(pod), if score.is_finite() { score } else { 0.0 });
            gauge!("plimsoll_bridge_theirs", "pod" => Arc::<str>::from(pod.name())).set(score);
        }
    }

    /// It is not the bridge, or no longer knows what is theirs.
    fn forget(&mut self) {
        self.holds_since = None;
        self.read_at = None;
        self.charges.clear();
        gauge!("plimsoll_bridge_holds").set(0.0);
    }

    fn say(&mut self, what: Said, say: impl FnOnce()) {
        if self.said.as_ref() != Some(&what) {
            say();
            self.said = Some(what);
        }
    }
}
