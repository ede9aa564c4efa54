//! Members: well nodes know each other, the dead are forgotten in time, nobody is declared dead who is not.

use std::time::Duration;

use plimsoll::core::Event;
use plimsoll::gossip::SUSPECT_FOR;
use plimsoll::id::{Epoch, Seq};
use plimsoll::pick::Rung;
use plimsoll::time::Time;

use super::bounds::{Bounds, can_meet};
use super::{Family, Found, Look, Rule};
use crate::plan::Plan;
use crate::world::{FormerLife, World};

/// Who knows whom is looked at every second; in crowds, where that is much, less often.
const EVERY: u64 = 10;
const CROWD: usize = 100;
/// From when on a Down of a well member is false: what went wrong before may have begun it.
const EFFECTS_LAST: Duration = Duration::from_secs(10);
/// In a run without faults, from so early on.
const FORMED: Duration = Duration::from_secs(5);
/// So long after rows went silent, as the ladder looks at every tick and takes 0.2 s; and before it forgets who went down,
/// after 30 s.
const CUT_OFF: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_secs(25));
/// Who went down is missed for 30 s, and then the ladder takes its time.
const MISSED: Duration = Duration::from_secs(35);
/// The ladder waits for a second of good news before it steps up, and looks at every tick.
const RISES: Duration = Duration::from_millis(1300);
/// A goodbye is known everywhere so soon after it was said, and the way.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) struct Members {
    bounds: Bounds,
    /// For each pair of nodes, in which life the one had what of the other: epoch and number of the last full row.
    rows: Vec<Option<(u32, Epoch, Seq)>>,
    /// Events that were looked at.
    events: usize,
    /// Since when each node hears nobody, though it heard somebody before.
    cut_off: Vec<Option<Time>>,
    /// For how long something was wrong with each node in its life, and which life.
    unwell: Vec<(u32, Duration)>,
    looked_at: Time,
    /// For each node: which life, since when it has been well in it, and since when it had been at the end of the last.
    well_since: Vec<(u32, Time, Time)>,
}

impl Members {
    pub(super) fn new(plan: &Plan) -> Members {
        let nodes = plan.world.nodes;
        Members {
            bounds: Bounds::new(&plan.world),
            rows: vec![None; nodes * nodes],
            events: 0,
            cut_off: vec![None; nodes],
            unwell: vec![(0, Duration::ZERO); nodes],
            looked_at: Time::ZERO,
            well_since: vec![(0, Time::ZERO, Time::ZERO); nodes],
        }
    }
}

impl Family for Members {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        self.look_at_events(look, world, found);
        self.look_at_rungs(look, world, found);
        let every = if world.config().nodes > CROWD { 10 * EVERY } else { EVERY };
        if look.number.is_multiple_of(every) || look.over {
            fades(world, found);
            self.look_at_order(world, found);
            self.look_at_pairs(look, world, found);
            self.look_at_the_dead(look, world, found);
            self.look_at_renewals(look, world, found);
        }
        for n in world.live() {
            let (life, since, before) = self.well_since[n];
            let before = if life == world.life(n) { before } else { since };
            self.well_since[n] = (world.life(n), look.weather.node_well_since(n), before);
        }
    }
}

/// What every node believes of every other, by the rule alone: nothing excuses a wrong weight.
fn fades(world: &World, found: &mut Found) {
    for n in world.live() {
        for m in (0..world.config().nodes).filter(|m| *m != n) {
            let Some(belief) = world.belief(n, m) else { continue };
            let Some(age) = belief.row_age else { continue };
            let member = belief.active && belief.epoch == belief.row_epoch && !belief.leaving;
            let (fresh, faded) = (2 * belief.row_every, 3 * belief.row_every);
            let right = match belief.weight_x256 {
                256 => member && age < faded,
                0 => !member || age > fresh,
                _ => member && age > fresh && age < faded,
            };
            found.judge(Rule::Fades, Some(n), None, right, || {
                format!("expected node-{m}'s row to count in full for {fresh:?}, not from {faded:?} on; got {belief:?}")
            });
        }
    }
}

impl Members {
    /// What is late or came twice changes nothing: while two nodes know each other, time goes forward between them.
    fn look_at_order(&mut self, world: &World, found: &mut Found) {
        let nodes = world.config().nodes;
        for (n, m) in (0..nodes).flat_map(|n| (0..nodes).map(move |m| (n, m))) {
            let belief = world.is_up(n).then(|| world.belief(n, m)).flatten().filter(|belief| belief.active);
            let now = belief.map(|belief| (world.life(n), belief.row_epoch, belief.row_seq));
            let before = std::mem::replace(&mut self.rows[n * nodes + m], now);
            if let (Some(before), Some(now)) = (before, now)
                && before.0 == now.0
            {
                found.judge(Rule::InOrder, Some(n), None, now >= before, || {
                    format!("expected node-{m}'s row to be no older than {before:?}; got {now:?}")
                });
            }
        }
    }

    /// How long nothing was wrong between two nodes, or with them.
    fn well_for(&self, look: &Look, n: usize, m: usize) -> Duration {
        let weather = look.weather;
        let since = weather.node_well_since(n).max(weather.node_well_since(m));
        look.now.since(since.max(weather.membership_well_since()))
    }

    fn look_at_events(&mut self, look: &Look, world: &World, found: &mut Found) {
        let new = world.events.get(self.events..).unwrap_or_default();
        self.events = world.events.len();
        for (at, n, event) in new {
            let (name, left) = match event {
                Event::MemberDown(name) => (name, false),
                Event::MemberLeft(name) => (name, true),
                _ => continue,
            };
            let Some(m) = name.strip_prefix("node-").and_then(|m| m.parse().ok()) else { continue };
            self.look_at_goodbye(look, world, (*n, m), (*at, left), found);
            if left {
                continue;
            }
            let honest = !look.weather.turned[m] && !look.weather.ghosts;
            let helpers = self.helpers_are_up(look, world);
            let well = world.is_up(*n) && world.is_up(m) && self.bounds.fair && honest && helpers;
            let needed = if look.weather.struck == 0 { FORMED } else { EFFECTS_LAST };
            if well && self.well_for(look, *n, m) > needed {
                found.fail(
                    Rule::FalseDown,
                    Some(*n),
                    None,
                    format!("expected {name} to be alive, as it is; got it declared down at {at:?}"),
                );
            }
        }
        found.mark(Rule::FalseDown, u64::from(self.bounds.fair));
    }

    /// Whether most of those that are held for members are up: who is asked to probe in one's stead, or told of a suspicion,
    /// is drawn from them. After a death of most, one lost packet may be as good as a death.
    fn helpers_are_up(&self, look: &Look, world: &World) -> bool {
        let dying = world.dead().filter(|(_, since)| look.now.since(*since) <= self.bounds.detected).count();
        2 * dying <= world.live().len()
    }

    /// Since when node `m` had been well at the end of its last life.
    fn was_well_since(&self, world: &World, m: usize) -> Time {
        let (life, since, before) = self.well_since[m];
        if world.is_up(m) && world.life(m) == life { before } else { since }
    }

    /// Node `n` said at `at` that node `m` is gone, and whether it had left. It must know that it had, if it was well enough
    /// to hear so.
    fn look_at_goodbye(
        &self,
        look: &Look,
        world: &World,
        (n, m): (usize, usize),
        (at, left): (Time, bool),
        found: &mut Found,
    ) {
        let Some((_, life)) = world.former_lives().find(|(node, _)| *node == m) else { return };
        if world.is_up(m) && world.started(m) < at {
            // It is the life after that which is down.
            return;
        }
        let soon = at.since(life.ended) < EFFECTS_LAST;
        if life.left && soon && self.would_hear(look, world, (n, m), life.ended) {
            found.judge(Rule::Goodbye, Some(n), None, left, || {
                format!("expected node-{m} to be known to have left at {:?}; got it declared down", life.ended)
            });
        }
    }

    fn look_at_rungs(&mut self, look: &Look, world: &World, found: &mut Found) {
        for n in 0..self.cut_off.len() {
            let reborn = self.cut_off[n].is_some_and(|since| world.started(n) > since);
            if world.walls() == 0 || !world.node_is_well(n) || !world.hears_nobody(n) || reborn {
                self.cut_off[n] = None;
                continue;
            }
            let heard = || (0..self.cut_off.len()).any(|m| m != n && world.is_up(m) && self.weight(world, n, m) > 0);
            if self.cut_off[n].is_none() && !heard() {
                continue;
            }
            let since = *self.cut_off[n].get_or_insert(look.now);
            let (from, to) = CUT_OFF;
            // Between two looks, a wall may fall and another stand up.
            let since = since.max(world.tally().heard_at[n]);
            let lasted = look.now.since(since.max(look.weather.links_well_since()));
            if lasted > from + self.bounds.fresh + self.bounds.way && lasted < to && look.weather.hostile_at.is_none() {
                let rung = world.core(n).picker().rung();
                found.judge(Rule::Rung, Some(n), None, rung != Rung::Fill, || {
                    format!("expected no trust in a view without news since {since:?}; got {rung:?}")
                });
            }
        }
    }

    fn weight(&self, world: &World, n: usize, m: usize) -> u64 {
        world.belief(n, m).map_or(0, |belief| belief.weight_x256)
    }

    fn look_at_pairs(&self, look: &Look, world: &World, found: &mut Found) {
        // Probes in one's stead may be asked of members that were invented: the well are declared down now and then.
        if !self.bounds.fair || look.weather.ghosts {
            return;
        }
        // Who turned on the others may have been taken at its word.
        let honest = |n: &usize| !look.weather.turned[*n];
        let well = |n: &usize| honest(n) && look.now.since(look.weather.node_well_since(*n)) > self.bounds.known;
        let well: Vec<usize> = world.live().into_iter().filter(well).collect();
        if well.is_empty() || look.now.since(look.weather.membership_well_since()) <= self.bounds.known {
            return;
        }
        if !can_meet(&world.config().join, &well, |n| world.told_to_join(n)) {
            return;
        }
        for n in &well {
            for m in well.iter().filter(|m| *m != n && world.have_shared_for(self.bounds.told, *n, **m)) {
                self.look_at_pair(look, world, (*n, *m), found);
            }
        }
        self.look_for_one_component(look, world, &well, found);
    }

    fn look_at_pair(&self, look: &Look, world: &World, (n, m): (usize, usize), found: &mut Found) {
        let belief = world.belief(n, m);
        let epoch = world.core(m).me().epoch;
        let counts = belief.is_some_and(|b| b.active && b.epoch == epoch && b.row_epoch == epoch);
        found.judge(Rule::Counted, Some(n), None, counts, || {
            let well = self.well_for(look, n, m);
            format!("expected node-{m} to count, with epoch {epoch:?}, both well for {well:?}; got {belief:?}")
        });
        if self.bounds.lossless {
            let age = belief.and_then(|belief| belief.row_age);
            found.judge(Rule::RowFresh, Some(n), None, age.is_some_and(|age| age <= self.bounds.refresh), || {
                format!("expected a word of node-{m} within {:?}; got {age:?}", self.bounds.refresh)
            });
        }
    }

    fn look_for_one_component(&self, look: &Look, world: &World, well: &[usize], found: &mut Found) {
        let detected = |(_, since): (usize, Time)| look.now.since(since) > self.bounds.detected;
        let all_are_well = well.len() == world.live().len();
        if !all_are_well || !world.dead().all(detected) || look.weather.ghosts {
            return;
        }
        let missed = |(_, life): (usize, FormerLife)| look.now.since(life.ended) < MISSED;
        // Who finds the others at the last moment trusts the view a moment later.
        let rises = |n: &&usize| {
            let since = look.weather.membership_well_since().max(look.weather.node_well_since(**n));
            look.now.since(since) > self.bounds.known + RISES + self.bounds.told
        };
        if self.bounds.lossless && !world.former_lives().any(missed) {
            for n in well.iter().filter(rises) {
                let rung = world.core(*n).picker().rung();
                found.judge(Rule::Rung, Some(*n), None, rung == Rung::Fill, || {
                    format!("expected picks by the view, as all is well; got {rung:?}")
                });
            }
        }
        for n in well {
            let (active, others) = (world.core(*n).footprint().active, well.len() - 1);
            found.judge(Rule::OneComponent, Some(*n), None, active == others, || {
                let members = world.members(*n);
                format!("expected {others} other members; got {active}: {members:?}")
            });
        }
    }

    fn look_at_the_dead(&self, look: &Look, world: &World, found: &mut Found) {
        for (m, life) in world.former_lives() {
            for n in world.live().into_iter().filter(|n| *n != m && !look.weather.turned[m]) {
                let weather = look.weather;
                self.look_after_goodbye(look, world, (n, m), life, found);
                let since = life.ended.max(weather.node_well_since(n)).max(weather.links_well_since());
                if look.now.since(since) <= self.bounds.faded(weather) {
                    continue;
                }
                let belief = world.belief(n, m);
                let reborn = world.is_up(m) && world.core(m).me().epoch == life.epoch;
                let ghost = belief.filter(|b| b.weight_x256 > 0 && b.row_epoch == life.epoch && !reborn);
                found.judge(Rule::DeadGone, Some(n), None, ghost.is_none(), || {
                    let Epoch(epoch) = life.epoch;
                    format!(
                        "expected nothing of node-{m}, whose life of epoch {epoch} ended at {:?}; got {belief:?}",
                        life.ended
                    )
                });
            }
        }
    }

    /// Who said goodbye counts no more as soon as that can be known; who only died counts for 2 s more.
    fn look_after_goodbye(
        &self,
        look: &Look,
        world: &World,
        (n, m): (usize, usize),
        life: FormerLife,
        found: &mut Found,
    ) {
        let gone_for = look.now.since(life.ended);
        let reborn = world.is_up(m) && world.core(m).me().epoch == life.epoch;
        if !life.left || reborn || gone_for <= FAREWELL + self.bounds.way || gone_for > self.bounds.fresh {
            return;
        }
        if !self.would_hear(look, world, (n, m), life.ended) {
            return;
        }
        let belief = world.belief(n, m);
        let counts = belief.is_some_and(|belief| belief.weight_x256 > 0 && belief.row_epoch == life.epoch);
        found.judge(Rule::Goodbye, Some(n), None, !counts, || {
            format!("expected node-{m} to count nothing, as it left at {:?}; got {belief:?}", life.ended)
        });
    }

    /// Whether node `n` was well enough at `ended` to hear the goodbye of node `m`, and that one to say it.
    fn would_hear(&self, look: &Look, world: &World, (n, m): (usize, usize), ended: Time) -> bool {
        let weather = look.weather;
        let well_since = weather.node_well_since(n).max(weather.links_well_since()).max(self.was_well_since(world, m));
        self.bounds.lossless && weather.hostile_at.is_none() && well_since + self.bounds.known < ended
    }

    fn look_at_renewals(&mut self, look: &Look, world: &World, found: &mut Found) {
        let past = look.now.since(self.looked_at);
        self.looked_at = look.now;
        for n in world.live() {
            let (life, unwell) = &mut self.unwell[n];
            if *life != world.life(n) {
                (*life, *unwell) = (world.life(n), Duration::ZERO);
            }
            let since = look.weather.node_well_since(n).max(look.weather.links_well_since());
            if !self.bounds.fair || look.now.since(since) < EFFECTS_LAST {
                *unwell += past;
            }
            if look.weather.hostile_at.is_some() {
                continue;
            }
            // Between two identities of a node lie a suspicion and its end.
            let most = 2 + 2 * look.weather.struck as u64 + (unwell.as_nanos() / SUSPECT_FOR.as_nanos()) as u64;
            let renewals = world.core(n).stats().renewals;
            found.judge(Rule::Renewals, Some(n), None, renewals <= most, || {
                format!("expected at most {most} identities in this life; got {renewals}")
            });
        }
    }
}
