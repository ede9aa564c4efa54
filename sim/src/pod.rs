//! A pod: slots that serve first come, first served.

use std::time::Duration;

use plimsoll::time::Time;

pub(crate) struct SimPod {
    /// When each slot is free again.
    slots: Vec<Time>,
    pub(crate) busy: Duration,
}

impl SimPod {
    pub(crate) fn new(slots: u32) -> SimPod {
        SimPod { slots: vec![Time::ZERO; slots as usize], busy: Duration::ZERO }
    }

    /// Takes a request that arrives at `at` and needs `service`; says when it is done. The order of arrival is the order
    /// of service, so the end is known at once.
    pub(crate) fn serve(&mut self, at: Time, service: Duration) -> Time {
        self.busy += service;
        let Some(slot) = self.slots.iter_mut().min() else { return at + service };
        *slot = (*slot).max(at) + service;
        *slot
    }
}
