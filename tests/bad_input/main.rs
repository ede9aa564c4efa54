//! Callers that send nonsense, too much, too slowly or nothing at all: each gets a clear answer or is shown out, nothing is
//! left behind, and who behaves is served meanwhile as if they were not there.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod admin;
mod bodies;
mod connections;
#[allow(dead_code, reason = "each suite uses its part")]
#[path = "../fake/mod.rs"]
mod fake;
mod floods;
mod frames;
mod heads;
mod nonsense;
mod readers;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use fake::world::{World, infer};
use fake::{eventually, rest};
use http::StatusCode;
use plimsoll::driver::metrics::Metrics;
use tokio::task::JoinHandle;

/// A caller that behaves, beside those that do not.
struct Beside {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    calls: JoinHandle<()>,
}

/// Sends requests over both protocols, one after the other.
fn beside(world: &World) -> Beside {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let (stopped, count) = (stop.clone(), answered.clone());
    let (mut client, addr) = (world.client.clone(), world.addr.clone());
    let calls = tokio::spawn(async move {
        let mut caller = rest::connect(&addr).await;
        while !stopped.load(SeqCst) {
            let answer = tokio::time::timeout(Duration::from_secs(20), client.model_infer(infer("m", "echo")));
            answer.await.unwrap().unwrap();
            let answer = rest::exchange(&mut caller, rest::infer("echo", "beside"));
            let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap();
            assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"beside"[..]));
            count.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    Beside { stop, answered, calls }
}

impl Beside {
    /// Some more of what it sends is answered, now.
    async fn is_served(&self) {
        let before = self.answered.load(SeqCst);
        eventually("a caller beside is served", || self.answered.load(SeqCst) > before + 3).await;
    }

    /// All that it sent was answered, and nothing is in flight any more.
    async fn was_served(self, world: &World) {
        self.stop.store(true, SeqCst);
        self.calls.await.unwrap();
        assert!(self.answered.load(SeqCst) > 0);
        eventually("tickets end", || world.in_flight() == 0).await;
    }
}

/// The value of the series that begins with `series`, as a scrape would show it; 0 where there is none.
async fn scraped(metrics: &Metrics, world: &World, series: &str) -> f64 {
    let text = metrics.render(&world.node).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Resident memory, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}
