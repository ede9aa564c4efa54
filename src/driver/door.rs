//! The way in for callers: takes in who comes while there is room, and bears with what goes wrong.
//!
//! Whoever comes when there is none is let in and shown out at once. To leave him in the kernel's queue would keep him waiting
//! for nothing, where another node may have room, and nobody would see it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tracing::{debug, warn};

use super::{clock, tcp};
use crate::time::Time;

/// A caller whose machine acknowledges nothing for this long is given up, and with it what pods do for it: as long as nginx has
/// for a caller that takes nothing of its answer. Less would cost callers on poor networks requests that could still end well.
const SILENCE: Duration = Duration::from_secs(60);
/// The pause after an accept that failed (most likely out of file descriptors): without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log speaks of the same trouble: seldom enough for a log, soon enough for who watches it.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Room for connections. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    most: usize,
}

impl Room {
    /// For `most` connections at once.
    pub(crate) fn new(most: usize) -> Room {
        Room { free: Arc::new(Semaphore::new(most)), most }
    }
}

/// A connection's place; whoever drops it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    _taken: OwnedSemaphorePermit,
    door: &'static str,
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!("plimsoll_connections", "door" => self.door).decrement(1.0);
    }
}

/// One listener.
pub(crate) struct Door {
    listener: TcpListener,
    /// As metrics and the log call it.
    name: &'static str,
    room: Room,
    turned_away: Seldom,
    failed: Seldom,
    /// None while nothing is wrong.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, name: &'static str, room: Room) -> Door {
        Door { listener, name, room, turned_away: Seldom::default(), failed: Seldom::default(), pause: None }
    }

    /// The next connection that there is room for. Dropping this loses nothing.
    pub(crate) async fn accept(&mut self) -> (TcpStream, Place) {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.bear(&error);
                    continue;
                }
            };
            let Some(place) = self.place() else { continue };
            match tcp::prepare(&stream, SILENCE) {
                Ok(()) => return (stream, place),
                Err(error) => debug!(%error, door = self.name, "a connection was gone before it began"),
            }
        }
    }

    fn place(&mut self) -> Option<Place> {
        let door = self.name;
        let Ok(taken) = self.room.free.clone().try_acquire_owned() else {
            counter!("plimsoll_connections_turned_away_total", "door" => door).increment(1);
            if let Some(count) = self.turned_away.count(clock::now()) {
                warn!(door, most = self.room.most, count, "turned connections away: there are as many as may be");
            }
            return None;
        };
        gauge!("plimsoll_connections", "door" => door).increment(1.0);
        Some(Place { _taken: taken, door })
    }

    fn bear(&mut self, error: &io::Error) {
        let door = self.name;
        // What went wrong with one connection alone is no reason to let the next one wait.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return debug!(%error, door, "a connection was gone before it was taken in");
        }
        counter!("plimsoll_accept_failures_total", "door" => door).increment(1);
        if let Some(count) = self.failed.count(clock::now()) {
            warn!(%error, door, count, "cannot take connections in");
        }
        self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
    }
}

/// What is said at its first time, and then every [`SAID_EVERY`] at most.
#[derive(Debug, Default)]
struct Seldom {
    unsaid: u64,
    said: Option<Time>,
}

impl Seldom {
    /// It happened once more: how often since it was last said, where it is time to say so.
    fn count(&mut self, now: Time) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.since(said) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of connections must not become a flood of log lines, nor go unseen.
    #[test]
    fn the_same_trouble_is_said_once_in_a_while() {
        let mut seldom = Seldom::default();
        assert_eq!(seldom.count(Time::ZERO), Some(1));
        assert_eq!((0..1000).find_map(|_| seldom.count(Time::ZERO)), None);
        assert_eq!(seldom.count(Time::ZERO + SAID_EVERY), Some(1001));
    }
}
