//! Who is connected, and what newcomers have to keep to. Beside the engine's lock, so that somebody can come in and end a
//! script that has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::peer::Peer;
use crate::settings::Settings;

/// All connections, by id, and the settings as they were last set.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    settings: Mutex<Settings>,
    /// Connections so far, and those that were one too many.
    pub(crate) admitted: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

impl Registry {
    /// Takes in a newcomer, and tells what it has to keep to; nothing, where there are too many.
    pub(crate) fn admit(&self, peer: &Arc<Peer>) -> Option<Settings> {
        let settings = self.settings.lock().clone();
        let mut peers = self.peers.lock();
        if peers.len() >= settings.maxclients {
            self.rejected.fetch_add(1, Relaxed);
            return None;
        }
        self.admitted.fetch_add(1, Relaxed);
        peers.insert(peer.id, peer.clone());
        Some(settings)
    }

    pub(crate) fn remove(&self, id: u64) {
        self.peers.lock().remove(&id);
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Peer>> {
        self.peers.lock().get(&id).cloned()
    }

    /// All of them, those that came first before the others.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.lock().len()
    }

    /// What newcomers have to keep to from now on.
    pub(crate) fn set(&self, settings: &Settings) {
        *self.settings.lock() = settings.clone();
    }
}
