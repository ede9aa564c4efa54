//! Keys that transactions watch: EXEC does nothing where one of them has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::HashMap;

use crate::engine::{Engine, Key};

/// By (database, key): the flags of those that watch it.
pub(crate) type Watched = HashMap<(usize, Key), Vec<Arc<AtomicBool>>>;

impl Engine {
    /// Something about `key` changed: transactions that watch it will not happen.
    pub(crate) fn touch(&mut self, db: usize, key: &[u8]) {
        self.dirty += 1;
        if self.watched.is_empty() {
            return;
        }
        if let Some(flags) = self.watched.get(&(db, Key::from(key))) {
            flags.iter().for_each(|flag| flag.store(true, Relaxed));
        }
    }

    /// Lets `flag` rise when `key` changes.
    pub(crate) fn watch(&mut self, db: usize, key: &[u8], flag: &Arc<AtomicBool>) {
        self.watched.entry((db, key.into())).or_default().push(flag.clone());
    }

    /// `flag` is watched for no more at `key`.
    pub(crate) fn unwatch(&mut self, db: usize, key: &[u8], flag: &Arc<AtomicBool>) {
        let at = (db, Key::from(key));
        if let Some(flags) = self.watched.get_mut(&at) {
            flags.retain(|other| !Arc::ptr_eq(other, flag));
            if flags.is_empty() {
                self.watched.remove(&at);
            }
        }
    }

    /// Exchanges two databases. Who watches a key that either of them has is told; who waits for one of their keys may have
    /// it now.
    pub(crate) fn swap(&mut self, first: usize, second: usize) {
        let watched: Vec<(usize, Key)> =
            self.watched.keys().filter(|(db, _)| *db == first || *db == second).cloned().collect();
        for (db, key) in watched {
            if self.peek(first, &key).is_some() || self.peek(second, &key).is_some() {
                self.touch(db, &key);
            }
        }
        self.dbs.swap(first, second);
        self.dirty += 1;
        self.ready.extend(self.blocked.keys_of(&[first, second]));
    }
}
