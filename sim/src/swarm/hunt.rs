//! Many seeds on many threads: each run is by itself, so that the number of threads changes nothing but the order in
//! which results come.

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use super::{Played, play};
use crate::plan::Plan;

/// A seed that was played.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub seed: u64,
    /// Its plan.
    pub plan: Plan,
    /// What came of it.
    pub played: Played,
}

/// Plays the plans that `make` makes of `seeds`, on `jobs` threads, and tells `each` as they come, on this thread, until
/// it has enough.
pub fn hunt(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    make: impl Fn(u64) -> Plan + Sync,
    mut each: impl FnMut(Found) -> ControlFlow<()>,
) {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tell, told) = mpsc::sync_channel(64);
    thread::scope(|scope| {
        let work = || {
            let tell = tell.clone();
            let (next, enough, seeds, make) = (&next, &enough, &seeds, &make);
            move || {
                while !enough.load(Relaxed) {
                    let Some(seed) = seeds.start.checked_add(next.fetch_add(1, Relaxed)) else { return };
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let plan = make(seed);
                    let played = play(&plan);
                    if tell.send(Found { seed, plan, played }).is_err() {
                        return;
                    }
                }
            }
        };
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work())).collect();
        drop(tell);
        for found in &told {
            if each(found).is_break() {
                enough.store(true, Relaxed);
                break;
            }
        }
        // Whoever still waits to tell finds nobody there.
        drop(told);
        for worker in workers {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}
