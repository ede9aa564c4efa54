//! Options that may have nothing to do with a failure: each back to what it usually is.

use crate::arrivals::Arrivals;
use crate::config::{Clients, Config, Join};
use crate::law::Law;
use crate::link::Link;
use crate::policy::Policy;
use crate::server::ServerSpec;

type Reset = fn(&mut Config);

/// The great ones first: what they take away need not be taken away piece by piece.
pub(super) const ALL: [(&str, Reset); 30] = [
    ("all that is wrong with links", |world| world.link = Link::default()),
    ("all that clients do", |world| world.clients = Clients::default()),
    ("all that pods are", |world| world.server = ServerSpec::default()),
    ("the law", |world| world.law = Law::default()),
    ("the arrivals", |world| world.arrivals = Arrivals::default()),
    ("the join lists", |world| world.join = Join::default()),
    ("the policy", |world| world.policy = Policy::default()),
    ("the drift of clocks", |world| world.drift_ppm = usual().drift_ppm),
    ("the cold starts", |world| world.cold_requests = usual().cold_requests),
    ("the relays", |world| (world.direct, world.always_relay) = (usual().direct, usual().always_relay)),
    ("the budget", |world| world.budget_bits = usual().budget_bits),
    ("the reaction", |world| world.reaction_us = usual().reaction_us),
    ("the hops", |world| (world.hop_us, world.hop_jitter_us) = (usual().hop_us, usual().hop_jitter_us)),
    ("the single losses", |world| world.link.loss = Link::default().loss),
    ("the losses in bursts", |world| world.link.burst = Link::default().burst),
    ("the duplicates", |world| world.link.duplicate = Link::default().duplicate),
    ("the corruption", |world| world.link.corrupt = Link::default().corrupt),
    ("the spikes", |world| world.link.spike = Link::default().spike),
    ("the delay", |world| {
        (world.link.delay_us, world.link.jitter_us) = (Link::default().delay_us, Link::default().jitter_us);
    }),
    ("the cancels", |world| world.clients.cancel = Clients::default().cancel),
    ("the gauges", |world| world.gauges = false),
    ("the deadlines", |world| world.clients.deadline_ms = Clients::default().deadline_ms),
    ("the retries", |world| world.clients.retries = Clients::default().retries),
    ("the models", |world| {
        (world.clients.models, world.clients.served_by) = (Clients::default().models, Clients::default().served_by);
    }),
    ("the limits of queues", |world| world.server.max_queue = None),
    ("the batches", |world| world.server.batching = None),
    ("the speeds", |world| world.server.speeds = Vec::new()),
    ("who asks how much", |world| world.clients.zipf = 0),
    ("the slots", |world| world.server.slots = ServerSpec::default().slots),
    ("most of the load", |world| world.load = world.load.min(0.2)),
];

fn usual() -> Config {
    Config::default()
}
