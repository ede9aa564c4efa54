//! What came of a run, as numbers and as a table.

use std::time::Duration;

use plimsoll::time::Time;

use crate::{Config, World};

/// What a datagram costs beside its payload: QUIC's part, IP and UDP, its share of acknowledgements. As the product's
/// budget counts it.
const OVERHEAD: u64 = 38 + 28 + 7;

/// One run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its policy.
    pub policy: &'static str,
    /// Requests finished after the warm-up.
    pub requests: usize,
    /// Mean latency, ms.
    pub mean_ms: f64,
    /// Percentiles 50, 99 and 99.9, ms.
    pub percentiles_ms: [f64; 3],
    /// Gossip each node sent, bytes/s with all overhead.
    pub bytes_per_s: f64,
    /// Messages each node sent, per second.
    pub messages_per_s: f64,
    /// Running mean age of small and heavy news at the end, ms, mean over the nodes.
    pub news_age_ms: [f64; 2],
    /// Share of changes that went at once.
    pub at_once: f64,
    /// How busy the pods were.
    pub utilisation: f64,
    /// The hash of all that happened.
    pub trace: u64,
}

impl Report {
    /// Runs a world for `span` at `load`; the first tenth warms up. What is in flight at the end still finishes.
    pub fn of(config: Config, load: f64, span: Duration) -> Report {
        let policy = config.policy.name();
        let mut world = World::new(config);
        // Until all know all: joining is another story.
        world.run_for(Duration::from_secs(2));
        let start = world.now();
        world.set_load(load);
        world.run_for(span);
        let utilisation = world.utilisation() * world.now().as_nanos() as f64 / span.as_nanos() as f64;
        world.set_load(0.0);
        let mut report = Report::read(policy, &world, span);
        world.run_for(Duration::from_secs(60));
        report.read_latencies(&world, start + span / 10);
        report.utilisation = utilisation;
        report.trace = world.trace();
        report
    }

    fn read(policy: &'static str, world: &World, span: Duration) -> Report {
        let live = world.live();
        let nodes = live.len() as f64;
        let mut report = Report {
            policy,
            requests: 0,
            mean_ms: 0.0,
            percentiles_ms: [0.0; 3],
            bytes_per_s: 0.0,
            messages_per_s: 0.0,
            news_age_ms: [0.0; 2],
            at_once: 0.0,
            utilisation: 0.0,
            trace: 0,
        };
        for n in live {
            let (stats, view) = (world.core(n).stats(), world.core(n).view(world.local(n)));
            for (messages, bytes) in stats.sent.values() {
                report.messages_per_s += *messages as f64 / span.as_secs_f64() / nodes;
                report.bytes_per_s += (bytes + messages * OVERHEAD) as f64 / span.as_secs_f64() / nodes;
            }
            report.news_age_ms[0] += view.news_age_small_ms / nodes;
            report.news_age_ms[1] += view.news_age_heavy_ms / nodes;
            report.at_once += stats.at_once as f64 / (stats.at_once + stats.waited).max(1) as f64 / nodes;
        }
        report
    }

    fn read_latencies(&mut self, world: &World, warm: Time) {
        let mut ms: Vec<f64> =
            world.done.iter().filter(|(at, _)| *at >= warm).map(|(_, took)| took.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        self.requests = ms.len();
        self.mean_ms = ms.iter().sum::<f64>() / ms.len().max(1) as f64;
        let at = |share: f64| ms.get(((ms.len() as f64 * share) as usize).min(ms.len().saturating_sub(1))).copied();
        self.percentiles_ms = [0.5, 0.99, 0.999].map(|share| at(share).unwrap_or(0.0));
    }

    /// The heading of a table of [`Report::row`]s.
    pub fn heading() -> String {
        format!(
            "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}{:>9}{:>7}{:>9}{:>9}{:>9}  trace",
            "policy",
            "requests",
            "mean ms",
            "p50",
            "p99",
            "p99.9",
            "busy",
            "bytes/s",
            "msg/s",
            "small ms",
            "heavy ms",
            "at once"
        )
    }

    /// One line.
    pub fn row(&self) -> String {
        let [p50, p99, p999] = self.percentiles_ms;
        format!(
            "{:<16}{:>9}{:>9.2}{:>9.2}{:>9.1}{:>9.1}{:>7.3}{:>9.0}{:>7.0}{:>9.2}{:>9.2}{:>9.2}  {:016x}",
            self.policy,
            self.requests,
            self.mean_ms,
            p50,
            p99,
            p999,
            self.utilisation,
            self.bytes_per_s,
            self.messages_per_s,
            self.news_age_ms[0],
            self.news_age_ms[1],
            self.at_once,
            self.trace
        )
    }
}
