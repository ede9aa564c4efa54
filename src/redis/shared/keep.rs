//! Who keeps the connection to the shared Redis: makes it, registers, tells what changed, says that this node lives, and
//! finds out when Redis is back. One task for each node; it never waits for longer than a second, and nobody waits for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Cmd, ErrorKind, ServerErrorKind};
use tokio::sync::Notify;
use tracing::{debug, info};

use super::super::book::{Change, Generation};
use super::super::link::{Link, LinkError, Server};
use super::super::scripts::Lua;
use super::{Shared, Tongue};
use crate::driver::clock;
use crate::time::Time;

/// Between two attempts to connect. A connection that is refused costs next to nothing; with this and a second for one that
/// hangs, a Redis that is back is used within two.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two registrations: somebody who deletes our keys as fast as we make them must not make us busy.
const REGISTER_AGAIN: Duration = Duration::from_millis(20);
/// Changes in one call, and charges in one registration: a script holds up everybody who asks, a thousand for a millisecond.
const BATCH: usize = 250;
/// Pods that one heartbeat names, in turn.
const NAMED: usize = 250;
/// Pods whose scores are reconciled after a heartbeat, in turn. A pod's log may be long.
const RECONCILED: usize = 2;
/// A pod that no node names for so many times the time after which a node is dead is forgotten, where nothing is in flight there.
const FORGET: u32 = 6;

pub(super) struct Keeper {
    shared: Weak<Shared>,
    tongue: Arc<Tongue>,
    changed: Arc<Notify>,
    server: Server,
    /// When the next heartbeat is due, and when the last registration was.
    beats: Time,
    registered: Option<Time>,
    /// Whose turn it is to be named and reconciled.
    named: AtomicU64,
    reconciled: AtomicU64,
    generation: Generation,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>, server: Server) -> Keeper {
        let turn = shared.turn.load(Relaxed);
        Keeper {
            shared: Arc::downgrade(shared),
            tongue: shared.tongue.clone(),
            changed: shared.changed.clone(),
            server,
            beats: Time::ZERO,
            registered: None,
            named: AtomicU64::new(0),
            // Nodes that start together should not all look at the same pods.
            reconciled: AtomicU64::new(turn),
            generation: Generation::default(),
        }
    }

    /// Until the node leaves, or is gone.
    pub(super) async fn run(mut self) {
        while let Some(shared) = self.node() {
            drop(shared);
            let error = match self.server.connect().await {
                Ok(link) => match self.serve(&link).await {
                    Ok(()) => return self.say_goodbye(&link).await,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            debug!(redis = %self.server.address(), "the shared Redis {error}");
            if let Some(shared) = self.node() {
                shared.lost(&error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The node, while it is there.
    fn node(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade().filter(|shared| !shared.lock().has_left)
    }

    async fn serve(&mut self, link: &Link) -> Result<(), LinkError> {
        self.load(link).await?;
        // Whatever Redis knew before this connection is in doubt.
        self.beats = Time::ZERO;
        while let Some(shared) = self.node() {
            self.look(&shared, link).await?;
            let next = self.next(&shared);
            drop(shared);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(next.since(clock::now())) => {}
                () = link.closed() => return Err(LinkError::Closed),
            }
        }
        Ok(())
    }

    /// Does what is due.
    async fn look(&mut self, shared: &Arc<Shared>, link: &Link) -> Result<(), LinkError> {
        let now = clock::now();
        shared.lock().book.look(now);
        let is_registered = shared.lock().book.generation().is_some();
        if !is_registered {
            self.register(shared, link).await?;
        }
        self.tell(shared, link).await?;
        let now = clock::now();
        let probes = shared.lock().ladder.probes(now);
        if !probes && now < self.beats {
            return Ok(());
        }
        let is_known = self.beat(shared, link).await?;
        let in_time = clock::now().since(now) <= shared.options.deadline;
        if probes {
            shared.probed(is_known && in_time);
        }
        if is_known && now >= self.beats {
            self.reconcile(shared, link).await?;
            self.beats = now + shared.options.heartbeat;
        }
        Ok(())
    }

    /// When something is due next.
    fn next(&self, shared: &Shared) -> Time {
        let inner = shared.lock();
        if inner.book.generation().is_none() {
            return clock::now();
        }
        let others = [inner.ladder.probe_at(), inner.book.next_look()];
        others.into_iter().flatten().fold(self.beats, Time::min)
    }

    /// Tells all that is in flight, under a new name.
    async fn register(&mut self, shared: &Shared, link: &Link) -> Result<(), LinkError> {
        let again = self.registered.map_or(Time::ZERO, |last| last + REGISTER_AGAIN);
        tokio::time::sleep(again.since(clock::now())).await;
        self.registered = Some(clock::now());
        let registration = shared.lock().book.register(BATCH);
        self.generation = registration.generation;
        let mut call = self.call(&self.tongue.scripts.register);
        call.arg(registration.replaces.len());
        for old in &registration.replaces {
            call.arg(self.tongue.client(*old));
        }
        for charge in &registration.charges {
            call.arg(charge.id.0).arg(&*charge.pod).arg(charge.cost_ms.to_string());
        }
        self.ask::<u64>(link, &call).await?;
        shared.counts.registrations.fetch_add(1, Relaxed);
        let mut inner = shared.lock();
        inner.book.registered(&registration);
        inner.connection = Some(link.connection().clone());
        Ok(())
    }

    /// Tells what changed, until nothing is left to tell.
    async fn tell(&mut self, shared: &Shared, link: &Link) -> Result<(), LinkError> {
        loop {
            let changes = shared.lock().book.changes(BATCH);
            if changes.is_empty() {
                return Ok(());
            }
            let mut call = self.call(&self.tongue.scripts.tell);
            for change in &changes {
                match change {
                    Change::Charge(charge) => {
                        call.arg("+").arg(charge.id.0).arg(&*charge.pod).arg(charge.cost_ms.to_string())
                    }
                    Change::Release(id) => call.arg("-").arg(id.0),
                };
            }
            if self.ask::<u64>(link, &call).await? == 0 {
                shared.lock().book.lost();
                return Ok(());
            }
        }
    }

    /// Says that this node lives; answers whether Redis knows it.
    async fn beat(&self, shared: &Shared, link: &Link) -> Result<bool, LinkError> {
        let mut call = self.call(&self.tongue.scripts.heartbeat);
        let reclaim = shared.options.reclaim;
        call.arg(ms(reclaim)).arg(ms(reclaim * FORGET));
        call.arg(self.in_turn(shared, &self.named, NAMED));
        let retired: i64 = self.ask(link, &call).await?;
        match u64::try_from(retired) {
            Ok(0) => {}
            Ok(retired) => {
                shared.counts.reclaimed.fetch_add(retired, Relaxed);
                info!("gave back what {retired} dead nodes had charged in the shared Redis");
            }
            Err(_) => shared.lock().book.lost(),
        }
        Ok(retired >= 0)
    }

    async fn reconcile(&self, shared: &Shared, link: &Link) -> Result<(), LinkError> {
        let pods = self.in_turn(shared, &self.reconciled, RECONCILED);
        if pods.is_empty() {
            return Ok(());
        }
        let mut call = self.call(&self.tongue.scripts.reconcile);
        call.arg(&pods);
        let corrected: u64 = self.ask(link, &call).await?;
        if corrected > 0 {
            shared.counts.corrected.fetch_add(corrected, Relaxed);
            info!("corrected {corrected} scores in the shared Redis by its log");
        }
        Ok(())
    }

    /// The next `most` of this node's pods, around and around.
    fn in_turn(&self, shared: &Shared, turn: &AtomicU64, most: usize) -> Vec<String> {
        let pods = shared.picker.pods();
        let most = most.min(pods.len());
        let from = turn.fetch_add(most as u64, Relaxed) as usize;
        (0..most).map(|k| pods[from.wrapping_add(k) % pods.len()].name().to_owned()).collect()
    }

    /// The node leaves, or is gone: its charges should not have to be reclaimed.
    async fn say_goodbye(&self, link: &Link) {
        // Where Redis does not hear it, its heartbeats' end says the same.
        let _ = self.ask::<u64>(link, &self.call(&self.tongue.scripts.leave)).await;
    }

    fn call(&self, script: &Lua) -> Cmd {
        self.tongue.keys.call(script, &self.tongue.client(self.generation))
    }

    /// The answer to a call; scripts that were forgotten are loaded again.
    async fn ask<T: redis::FromRedisValue>(&self, link: &Link, call: &Cmd) -> Result<T, LinkError> {
        match link.ask(call).await {
            Err(LinkError::Refused(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.load(link).await?;
                link.ask(call).await
            }
            answer => answer,
        }
    }

    async fn load(&self, link: &Link) -> Result<(), LinkError> {
        for load in self.tongue.scripts.loads() {
            link.ask::<String>(&load).await?;
        }
        Ok(())
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
