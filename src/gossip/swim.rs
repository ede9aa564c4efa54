//! Membership: foca, with the settings and the guards it needs.
//!
//! foca knows no clock, so its timers wait here, ordered by deadline. What this adds: a stale suspicion timer is dropped
//! (foca 2.0 would tell a member that refuted it to renew), being told that we are down never renews us blindly (see
//! [`Swim::handle`]), and identities are totally ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Config, Foca, Identity, Member, NoCustomBroadcast, PeriodicParams, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::wire::{self, Ident, Known, MAX_SWIM, MemberState, SwimCodec, WireError};
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

impl Identity for Ident {
    type Addr = SocketAddr;

    /// Only reached by gossip that this very identity is down; a later gen then wins against it at once.
    fn renew(&self) -> Option<Ident> {
        Some(Ident { r#gen: self.r#gen.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A total order: if neither of two identities won, they would replace each other for ever.
    fn win_addr_conflict(&self, other: &Ident) -> bool {
        (self.epoch, self.r#gen, self.id) > (other.epoch, other.r#gen, other.id)
    }
}

/// Members beyond this are not kept: one member could invent any number of others, and foca remembers each for an hour.
pub(crate) const MAX_MEMBERS: usize = 4096;

/// Fewer timers are not worth looking through: a cluster of a hundred has some two hundred in its worst minute.
const MANY_TIMERS: usize = 256;

pub(crate) struct Swim {
    foca: Foca<Ident, SwimCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Ident>,
    /// By deadline, then by order of submission.
    timers: BTreeMap<(Time, u64), Timer<Ident>>,
    submitted: u64,
    /// How often it may have forgotten something of somebody.
    forgotten: u64,
    /// When so many wait, those that nobody needs any more are looked for.
    most_timers: usize,
    /// Errors foca returned: of packets, and of its own doing (which must stay zero).
    pub(crate) packet_errors: u64,
    pub(crate) internal_errors: u64,
}

/// What a SWIM packet asks of the core, beside what foca does with it.
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// The sender thinks that we are down: ask it what it knows, then win against that in one step.
    ThoughtDown(Ident),
}

/// How often every node probes one other. Half of it is not enough for a busy machine's scheduling; double delays every
/// detection by as much.
pub const PROBE_PERIOD: Duration = Duration::from_millis(500);

/// How long a suspect has to refute before it is down.
pub const SUSPECT_FOR: Duration = Duration::from_secs(2);

/// Settings measured for clusters of callers: detection in about 2.5 s, no false Down at 10 % loss for 3 to 20 nodes.
fn config() -> Config {
    const fn some(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("a positive constant")
    }
    let every = |frequency, members| Some(PeriodicParams { frequency, num_members: some(members) });
    Config {
        probe_period: PROBE_PERIOD,
        // As the period: for half of it a busy machine is too slow.
        probe_rtt: Duration::from_millis(150),
        num_indirect_probes: some(3),
        // foca's own rule gives 2 for three nodes: both copies of a suspicion get lost, and a healthy node goes down.
        max_transmissions: NonZeroU8::new(12).expect("a positive constant"),
        suspect_to_down_after: SUSPECT_FOR,
        // Identities are unique per start; keeping the dead longer only costs memory under churn.
        remove_down_after: Some(Duration::from_secs(3600)),
        max_packet_size: some(MAX_SWIM),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(10), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(5), 3),
        periodic_gossip: every(Duration::from_millis(100), 3),
    }
}

impl Swim {
    pub(crate) fn new(me: Ident, seed: u64) -> Swim {
        Swim {
            foca: Foca::new(me, config(), StdRng::seed_from_u64(seed), SwimCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            submitted: 0,
            forgotten: 0,
            most_timers: MANY_TIMERS,
            packet_errors: 0,
            internal_errors: 0,
        }
    }

    /// Who we are now: foca may renew it.
    pub(crate) fn me(&self) -> Ident {
        *self.foca.identity()
    }

    /// A packet from `from`. Its source must be `from`: a member speaks for itself.
    pub(crate) fn handle(&mut self, now: Time, from: NodeId, packet: &[u8]) -> Result<Heard, WireError> {
        let (source, thought_down) = wire::peek_swim(packet)?;
        if source.id != from {
            return Err(WireError::Body("swim"));
        }
        if thought_down && !mutant::is(Mutant::RenewBlindly) {
            // foca would renew at once, which cannot see what the cluster knows and may lose again, for ever: a node
            // restarted with its clock set back renewed 285,776 times in 330 s in a simulation.
            return Ok(Heard::ThoughtDown(source));
        }
        if self.foca.iter_membership_state().len() >= MAX_MEMBERS && self.tells_of_strangers(packet)? {
            return Err(WireError::TooManyMembers(MAX_MEMBERS));
        }
        if self.foca.handle_data(packet, &mut self.runtime).is_err() {
            self.packet_errors += 1;
        }
        self.collect_timers(now);
        Ok(Heard::Nothing)
    }

    fn tells_of_strangers(&self, packet: &[u8]) -> Result<bool, WireError> {
        let known: BTreeSet<NodeId> = self.members().map(|m| m.id().id).collect();
        Ok(wire::swim_members(packet)?.iter().any(|ident| !known.contains(&ident.id)))
    }

    /// Runs every timer that is due, in the order of the deadlines.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(entry) = self.timers.first_entry() {
            let due = entry.key().0;
            if due > now {
                break;
            }
            let timer = entry.remove();
            if self.is_stale_suspicion(&timer) || is_skipped(&timer, now.since(due)) {
                continue;
            }
            self.forgotten += u64::from(matches!(timer, Timer::RemoveDown(_)));
            if self.foca.handle_timer(timer, &mut self.runtime).is_err() {
                self.internal_errors += 1;
            }
            self.collect_timers(now);
        }
    }

    /// foca 2.0 (and before) sends `TurnUndead` to a member whose suspicion was refuted, because `apply_existing_if`
    /// returns a summary also where its condition was false. For such a timer it has nothing else to do.
    fn is_stale_suspicion(&self, timer: &Timer<Ident>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        let still =
            |m: &Member<Ident>| m.id() == member_id && m.incarnation() == *incarnation && m.state() == State::Suspect;
        !self.foca.iter_membership_state().any(still)
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many timers wait.
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The next packet to send, and to whom.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Ident, Bytes)> {
        self.runtime.to_send()
    }

    /// Whether membership may have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        let mut changed = false;
        while self.runtime.to_notify().is_some() {
            changed = true;
        }
        changed
    }

    pub(crate) fn announce(&mut self, now: Time, to: Ident) {
        if self.foca.announce(to, &mut self.runtime).is_err() {
            self.internal_errors += 1;
        }
        self.collect_timers(now);
    }

    /// Learns of members from outside SWIM (Hello, Sync).
    pub(crate) fn apply(&mut self, now: Time, members: impl Iterator<Item = Member<Ident>>, spread: bool) {
        if self.foca.apply_many(members, spread, &mut self.runtime).is_err() {
            self.internal_errors += 1;
            self.forgotten += 1;
        }
        self.collect_timers(now);
    }

    pub(crate) fn change_identity(&mut self, now: Time, me: Ident) {
        self.forgotten += 1;
        // foca stops probing for its old identity and begins for the new one at the next word from anybody, which never comes
        // where everybody died meanwhile. To be told of nobody is a word too.
        let changed = self.foca.change_identity(me, &mut self.runtime);
        if changed.and_then(|()| self.foca.apply_many(std::iter::empty(), false, &mut self.runtime)).is_err() {
            self.internal_errors += 1;
        }
        self.collect_timers(now);
    }

    pub(crate) fn leave(&mut self, now: Time) {
        if self.foca.leave_cluster(&mut self.runtime).is_err() {
            self.internal_errors += 1;
        }
        self.collect_timers(now);
    }

    /// Every member it remembers, the down ones too.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<Ident>> {
        self.foca.iter_membership_state()
    }

    /// The same: who, and in which state.
    pub(crate) fn states(&self) -> impl Iterator<Item = (Ident, MemberState)> {
        self.members().map(|m| (*m.id(), MemberState::from(m.state())))
    }

    /// While this stays the same, it knows all that it was told, or better: to tell it the same again does nothing.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The best identity known of a node, or of whoever used its address.
    pub(crate) fn known(&self, of: &Ident) -> Option<Known> {
        let about = |m: &&Member<Ident>| m.id().id == of.id || m.id().addr == of.addr;
        let best = self.members().filter(about).max_by_key(|m| (m.id().epoch, m.id().r#gen, m.id().id))?;
        let alive = best.state() != State::Down && best.id().id == of.id;
        Some(Known { epoch: best.id().epoch, r#gen: best.id().r#gen, alive })
    }

    fn collect_timers(&mut self, now: Time) {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.submitted += 1;
            self.timers.insert((now + after, self.submitted), timer);
        }
        if self.timers.len() > self.most_timers {
            self.drop_spent_timers();
            self.most_timers = MANY_TIMERS.max(2 * self.timers.len());
        }
    }

    /// Drops the timers of identities that are not what they were: to forget one that was replaced, to give up one that
    /// refuted. foca sets one for each and waits an hour, so that a member which makes up ever new identities for one
    /// address would fill the memory, though members are bounded.
    fn drop_spent_timers(&mut self) {
        // One member has one address.
        let states: BTreeMap<SocketAddr, &Member<Ident>> =
            self.foca.iter_membership_state().map(|m| (m.id().addr, m)).collect();
        let still = |ident: &Ident, state| {
            states.get(&ident.addr).filter(|m| m.id() == ident && m.state() == state).map(|m| m.incarnation())
        };
        self.timers.retain(|_, timer| match timer {
            Timer::RemoveDown(ident) => still(ident, State::Down).is_some(),
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                still(member_id, State::Suspect) == Some(*incarnation)
            }
            _ => true,
        });
    }
}

/// For a mutant: what nobody seems to wait for any more.
fn is_skipped(timer: &Timer<Ident>, late: Duration) -> bool {
    let late = late > Duration::from_millis(100) && matches!(timer, Timer::SendIndirectProbe { .. });
    late && mutant::is(Mutant::SkipLateProbes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn ident(n: u8) -> Ident {
        Ident { id: NodeId(u64::from(n)), epoch: Epoch(1), r#gen: 0, addr: SocketAddr::from(([10, 0, 0, n], 7600)) }
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A member that was slow for a moment refutes the suspicion in time; the timer that was set for it must not tell a
    /// healthy member that it is down.
    #[test]
    fn a_refuted_suspicion_is_forgotten() {
        let mut swim = Swim::new(ident(1), 1);
        swim.apply(at(0), std::iter::once(Member::alive(ident(2))), false);
        let is_suspect = |swim: &Swim| swim.members().any(|m| m.state() == State::Suspect);
        let suspected_at = (0..3000).find(|ms| {
            swim.handle_timeout(at(*ms));
            is_suspect(&swim)
        });
        let suspected_at = suspected_at.expect("a member that never answers is suspected");
        swim.apply(at(suspected_at), std::iter::once(Member::new(ident(2), 1, State::Alive)), false);
        assert!(!is_suspect(&swim));
        // Until just after the first suspicion would have ended; the next one, which is just, ends later.
        for ms in suspected_at..suspected_at + 2200 {
            swim.handle_timeout(at(ms));
        }
        let accused =
            std::iter::from_fn(|| swim.poll_transmit()).filter(|(_, packet)| wire::peek_swim(packet).unwrap().1);
        assert_eq!(accused.count(), 0);
        assert_eq!((swim.internal_errors, swim.packet_errors), (0, 0));
    }

    /// Who takes a new identity just when everybody else dies must find out that they did.
    #[test]
    fn a_new_identity_goes_on_probing() {
        let mut swim = Swim::new(ident(1), 1);
        swim.apply(at(0), std::iter::once(Member::alive(ident(2))), false);
        swim.change_identity(at(1), Ident { r#gen: 1, ..ident(1) });
        (1..5000).for_each(|ms| swim.handle_timeout(at(ms)));
        assert!(swim.members().all(|m| m.state() == State::Down), "{:?}", swim.states().collect::<Vec<_>>());
    }

    /// Nobody speaks for another, and who thinks us down is asked before anything changes.
    #[test]
    fn packets_must_come_from_their_source() {
        let (mut a, mut b) = (Swim::new(ident(1), 1), Swim::new(ident(2), 2));
        b.announce(at(0), ident(1));
        let (_, packet) = b.poll_transmit().unwrap();
        assert!(a.handle(at(1), NodeId(3), &packet).is_err());
        assert!(matches!(a.handle(at(1), NodeId(2), &packet), Ok(Heard::Nothing)));
        // b is down for a; what it says next is answered by "you are down", which must not renew b by itself.
        a.apply(at(2), std::iter::once(Member::new(ident(2), 0, State::Down)), false);
        b.announce(at(2), ident(1));
        let said: Vec<Bytes> = std::iter::from_fn(|| b.poll_transmit()).map(|(_, packet)| packet).collect();
        for packet in said {
            let _ = a.handle(at(3), NodeId(2), &packet);
        }
        let told: Vec<Bytes> = std::iter::from_fn(|| a.poll_transmit()).map(|(_, packet)| packet).collect();
        let undead = told.iter().find(|packet| wire::peek_swim(packet).unwrap().1).expect("a says so");
        assert!(matches!(b.handle(at(4), NodeId(1), undead), Ok(Heard::ThoughtDown(accuser)) if accuser == ident(1)));
        assert_eq!(b.me(), ident(2));
    }

    /// Members are bounded, but each new identity of one that is down left a timer for an hour: 2,000 lies a second would
    /// have filled a gigabyte before the first of them was forgotten. Those that still mean something must stay.
    #[test]
    fn identities_that_were_replaced_leave_no_timers() {
        let mut swim = Swim::new(ident(1), 1);
        let lie = |epoch| Member::new(Ident { epoch: Epoch(epoch), ..ident(2) }, 0, State::Down);
        (1..20_000).for_each(|epoch| swim.apply(at(0), std::iter::once(lie(epoch)), false));
        assert!(swim.timers() <= 2 * MANY_TIMERS, "{}", swim.timers());
        assert_eq!(swim.members().count(), 1);
        swim.handle_timeout(at(3_600_001));
        assert_eq!((swim.members().count(), swim.internal_errors), (0, 0));
    }

    /// A member may tell of others, but not of any number: what it invents is bounded, and members that are known go on
    /// being heard.
    #[test]
    fn invented_members_are_bounded() {
        let invented = |n: u64| {
            let addr = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 7600));
            Member::alive(Ident { id: NodeId(1000 + n), epoch: Epoch(1), r#gen: 0, addr })
        };
        let (mut a, mut b) = (Swim::new(ident(1), 1), Swim::new(ident(2), 2));
        a.apply(at(0), std::iter::once(Member::alive(ident(2))), false);
        b.apply(at(0), std::iter::once(Member::alive(ident(1))), false);
        a.apply(at(0), (0..MAX_MEMBERS as u64).map(invented), false);
        let before = a.members().count();
        b.apply(at(1), (9000..9040).map(invented), true);
        b.announce(at(1), ident(1));
        (1..50).for_each(|tick| b.handle_timeout(at(100 * tick)));
        let (mut refused, mut heard) = (0, 0);
        while let Some((to, packet)) = b.poll_transmit() {
            if to == ident(1) {
                match a.handle(at(5000), NodeId(2), &packet) {
                    Err(WireError::TooManyMembers(_)) => refused += 1,
                    Ok(_) => heard += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(refused > 0 && heard > 0, "{refused} refused, {heard} heard");
        assert_eq!(a.members().count(), before);
    }
}
