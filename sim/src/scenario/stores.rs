//! What happens to a fleet that has a store to ask. To one that gossips, nothing does.

use super::{Day, Scenario};
use crate::fault::Fault;

pub(super) const ALL: [Scenario; 2] = [
    Scenario {
        name: "redis-stall",
        help: "The Redis of a fleet that asks one stands still for half a second, five times",
        make: |day: &mut Day| day.one_by_one(5, |_, _| Fault::RedisStall { for_ms: 500 }),
    },
    Scenario {
        name: "redis-death",
        help: "The Redis of a fleet that asks one dies, is away for a fifth of the time, and comes back empty",
        make: |day: &mut Day| {
            let for_ms = day.percent(20);
            day.at(40, Fault::RedisDeath { for_ms });
        },
    },
];
