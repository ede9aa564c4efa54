//! What lies between two nodes: delay, jitter, loss (single and in bursts), duplicates, corruption, and walls and clogs.
//!
//! What happens to a packet is a function of the seed, the link and the packet's number on it: taking one fault out of a
//! plan does not draw the fate of all other packets anew.

use std::time::Duration;

use plimsoll::time::Time;
use serde::{Deserialize, Serialize};

use crate::bad::{BadValue, within};
use crate::rng::{Rng, Share, hash};

/// Between two attempts to get a lost packet of a stream through: QUIC's timeout doubles, but soon has an answer to measure
/// by, and a first packet is given a second at most (RFC 9002, 6.2.2).
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One way between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// The least it takes, µs.
    pub delay_us: u64,
    /// At most this more, uniformly, µs: datagrams overtake each other.
    pub jitter_us: u64,
    /// The share of packets that are lost one by one.
    pub loss: Share,
    /// The share of time in which a link is bad.
    pub burst: Share,
    /// How long a bad stretch lasts, ms.
    pub burst_ms: u64,
    /// The share of packets that are lost while it is bad.
    pub burst_loss: Share,
    /// The share of datagrams that arrive twice, the second up to a second late.
    pub duplicate: Share,
    /// The share of packets with flipped bits: QUIC's seal turns each into a loss.
    pub corrupt: Share,
    /// The share of packets that are late by a spike.
    pub spike: Share,
    /// A spike, ms.
    pub spike_ms: u64,
    /// Datagrams above this many bytes of payload do not fit the path.
    pub mtu: usize,
}

impl Default for Link {
    /// A data centre, pessimistically: 0.2 to 1 ms one way, no loss.
    fn default() -> Link {
        Link {
            delay_us: 200,
            jitter_us: 800,
            loss: Share::NEVER,
            burst: Share::NEVER,
            burst_ms: 200,
            burst_loss: Share::ALWAYS,
            duplicate: Share::NEVER,
            corrupt: Share::NEVER,
            spike: Share::NEVER,
            spike_ms: 100,
            mtu: 1200,
        }
    }
}

impl Link {
    /// The same with that much loss.
    pub fn lossy(loss: f64) -> Link {
        Link { loss: Share::new(loss).unwrap_or(Share::ALWAYS), ..Link::default() }
    }

    pub(crate) fn check(&self) -> Result<(), BadValue> {
        within("link.mtu", self.mtu as f64, (100.0, 65_535.0), "write bytes, from 100 to 65535; QUIC needs 1200")?;
        for (field, share) in [("link.loss", self.loss), ("link.corrupt", self.corrupt), ("link.burst", self.burst)] {
            if share == Share::ALWAYS {
                return Err(BadValue::new(field, share, "lets nothing through, ever", "below 1"));
            }
        }
        if self.burst_ms == 0 {
            return Err(BadValue::new("link.burst_ms", 0, "is no stretch of time", "1 or more"));
        }
        let minute = |field, us: u64| within(field, us as f64, (0.0, 60e6), "a minute at most");
        minute("link.delay_us", self.delay_us)?;
        minute("link.jitter_us", self.jitter_us)?;
        minute("link.spike_ms", self.spike_ms.saturating_mul(1000))
    }

    fn least(&self) -> Duration {
        Duration::from_micros(self.delay_us)
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives after this long, and perhaps a copy of it after that long.
    Arrives(Duration, Option<Duration>),
    Lost,
}

/// All links, with what stands in their way.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) link: Link,
    seed: u64,
    nodes: usize,
    /// For each ordered pair: packets so far, and until when it is clogged.
    packets: Vec<u32>,
    walled: Vec<bool>,
    walls: usize,
    clogged: Vec<Time>,
}

impl Links {
    pub(crate) fn new(link: Link, seed: u64, nodes: usize) -> Links {
        let pairs = nodes * nodes;
        let (packets, walled, clogged) = (vec![0; pairs], vec![false; pairs], vec![Time::ZERO; pairs]);
        Links { link, seed, nodes, packets, walled, walls: 0, clogged }
    }

    pub(crate) fn wall(&mut self, from: usize, to: usize) {
        let pair = self.pair(from, to);
        self.walls += usize::from(!std::mem::replace(&mut self.walled[pair], true));
    }

    pub(crate) fn open(&mut self, from: usize, to: usize) {
        let pair = self.pair(from, to);
        self.walls -= usize::from(std::mem::replace(&mut self.walled[pair], false));
    }

    pub(crate) fn heal(&mut self) {
        self.walled.fill(false);
        self.walls = 0;
    }

    /// How many walls stand.
    pub(crate) fn walls(&self) -> usize {
        self.walls
    }

    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.walls == 0 || !self.walled[self.pair(from, to)]
    }

    /// Nothing leaves the link before `until`; then all of it does.
    pub(crate) fn clog(&mut self, from: usize, to: usize, until: Time) {
        let pair = self.pair(from, to);
        self.clogged[pair] = self.clogged[pair].max(until);
    }

    pub(crate) fn datagram(&mut self, now: Time, from: usize, to: usize, bytes: usize) -> Fate {
        let mut fate = self.draw(from, to);
        let bad = self.is_bad(now, from, to) && fate.hits(self.link.burst_loss);
        if bad || fate.hits(self.link.loss) || fate.hits(self.link.corrupt) || bytes > self.link.mtu {
            return Fate::Lost;
        }
        let delay = self.delay(now, from, to, &mut fate);
        let copy = fate.hits(self.link.duplicate);
        let copy = copy.then(|| delay + fate.between(Duration::ZERO, Duration::from_secs(1)));
        Fate::Arrives(delay, copy)
    }

    /// A short stream's time: each loss costs a probe timeout (three round trips and 25 ms, twice as much each time, but
    /// a second at most) until it gets through.
    pub(crate) fn stream(&mut self, now: Time, from: usize, to: usize) -> Duration {
        let mut fate = self.draw(from, to);
        let mut total = self.delay(now, from, to, &mut fate);
        let mut pause = (6 * self.link.least() + Duration::from_millis(25)).min(LONGEST_PAUSE);
        for _ in 0..8 {
            let bad = self.is_bad(now + total, from, to) && fate.hits(self.link.burst_loss);
            if !bad && !fate.hits(self.link.loss) && !fate.hits(self.link.corrupt) {
                break;
            }
            total += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        total
    }

    /// A round trip, for a handshake.
    pub(crate) fn round_trip(&mut self, now: Time, a: usize, b: usize) -> Duration {
        self.stream(now, a, b) + self.stream(now, b, a)
    }

    /// Half the round trip as a connection would measure it.
    pub(crate) fn measured_transit(&self) -> Duration {
        Duration::from_micros(self.link.delay_us + self.link.jitter_us / 2)
    }

    fn delay(&self, now: Time, from: usize, to: usize, fate: &mut Rng) -> Duration {
        let clog = self.clogged[self.pair(from, to)].since(now);
        let spike = if fate.hits(self.link.spike) { Duration::from_millis(self.link.spike_ms) } else { Duration::ZERO };
        clog + spike + fate.between(self.link.least(), self.link.least() + Duration::from_micros(self.link.jitter_us))
    }

    /// Time is cut into stretches, each bad or not by itself.
    fn is_bad(&self, now: Time, from: usize, to: usize) -> bool {
        self.link.burst > Share::NEVER && {
            let stretch = now.as_nanos() / (self.link.burst_ms * 1_000_000);
            Rng::from_hash(hash(&[self.seed, 1, from as u64, to as u64, stretch])).hits(self.link.burst)
        }
    }

    fn draw(&mut self, from: usize, to: usize) -> Rng {
        let pair = self.pair(from, to);
        self.packets[pair] = self.packets[pair].wrapping_add(1);
        // By names, not by place in the table: a smaller world draws the same fates for the nodes it still has.
        Rng::from_hash(hash(&[self.seed, 0, from as u64, to as u64, u64::from(self.packets[pair])]))
    }

    fn pair(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(link: Link, packets: usize) -> Vec<Fate> {
        let mut links = Links::new(link, 5, 2);
        (0..packets).map(|k| links.datagram(Time::from_nanos(k as u64 * 1_000_000), 0, 1, 100)).collect()
    }

    /// A loss rate that was not what was asked for would make every tale about loss a lie: 10,000 packets at 5 % are 500,
    /// give or take four standard deviations (4 x 22).
    #[test]
    fn as_many_packets_are_lost_as_asked_for() {
        let lost = fates(Link::lossy(0.05), 10_000).iter().filter(|fate| **fate == Fate::Lost).count();
        assert!(lost.abs_diff(500) < 88, "{lost}");
    }

    /// Losses in bursts must be neighbours: a tenth of the time is bad in stretches of 50 packets, so that nearly all
    /// lost packets follow a lost one, where single losses at that rate would in a tenth of the cases.
    #[test]
    fn bursts_lose_neighbours() {
        let burst = Link { burst: Share::millionths(100_000), burst_ms: 50, ..Link::default() };
        let fates = fates(burst, 20_000);
        let lost = |fate: &Fate| *fate == Fate::Lost;
        let all = fates.iter().filter(|fate| lost(fate)).count();
        let follow = fates.windows(2).filter(|pair| lost(&pair[0]) && lost(&pair[1])).count();
        assert!(all.abs_diff(2000) < 900, "{all}");
        assert!(follow * 10 > all * 9, "{follow} of {all}");
    }

    /// A clogged link holds what it is given and lets it go at once; a wall stands in one direction.
    #[test]
    fn clogs_hold_and_walls_stand_one_way() {
        let mut links = Links::new(Link::default(), 5, 2);
        links.clog(0, 1, Time::from_nanos(5_000_000_000));
        let Fate::Arrives(delay, None) = links.datagram(Time::ZERO, 0, 1, 9) else { panic!("it is held, not lost") };
        assert!(delay >= Duration::from_secs(5));
        links.wall(0, 1);
        assert_eq!((links.is_open(0, 1), links.is_open(1, 0)), (false, true));
        links.open(0, 1);
        assert!(links.is_open(0, 1));
    }
}
