//! What a node that shares its state through a Redis tells Prometheus of it.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::StateView;

pub(crate) fn describe() {
    describe_gauge!("plimsoll_state_rung", "Who decides picks now: 1 for the one, 0 for the other.");
    describe_counter!(
        "plimsoll_state_steps_total",
        "Steps between the shared Redis and the gossiped view, by where to."
    );
    describe_counter!("plimsoll_state_asked_total", "Picks that the shared Redis was asked for.");
    describe_counter!("plimsoll_state_answered_total", "Picks that were made as the shared Redis answered.");
    describe_counter!(
        "plimsoll_state_missed_total",
        "Picks that the shared Redis was asked for and the view decided, by why: late, failed, unknown (it did not know this node), unfit (this node cannot use the pod)."
    );
    describe_counter!(
        "plimsoll_state_unasked_total",
        "Picks that the view decided at once, because the shared Redis had not answered before."
    );
    describe_gauge!("plimsoll_state_in_flight", "Requests of this node that the shared Redis should know of.");
    describe_gauge!("plimsoll_state_waiting", "Charges and releases that the shared Redis is yet to be told of.");
    describe_counter!(
        "plimsoll_state_registrations_total",
        "Times that the shared Redis was told all that this node has in flight."
    );
    describe_counter!("plimsoll_state_reclaimed_total", "Dead nodes whose charges this node had given back.");
    describe_counter!("plimsoll_state_corrected_total", "Scores that were not the sum of the log, and were made so.");
}

pub(crate) fn values(state: &StateView) {
    for rung in ["redis", "gossip"] {
        gauge!("plimsoll_state_rung", "rung" => rung).set(f64::from(u8::from(state.rung == rung)));
    }
    counter!("plimsoll_state_steps_total", "to" => "gossip").absolute(state.steps_down);
    counter!("plimsoll_state_steps_total", "to" => "redis").absolute(state.steps_up);
    counter!("plimsoll_state_asked_total").absolute(state.asked);
    counter!("plimsoll_state_answered_total").absolute(state.answered);
    for (why, count) in state.missed.by_why() {
        counter!("plimsoll_state_missed_total", "why" => why).absolute(count);
    }
    counter!("plimsoll_state_unasked_total").absolute(state.unasked);
    gauge!("plimsoll_state_in_flight").set(state.in_flight as f64);
    gauge!("plimsoll_state_waiting").set(state.waiting as f64);
    counter!("plimsoll_state_registrations_total").absolute(state.registrations);
    counter!("plimsoll_state_reclaimed_total").absolute(state.reclaimed);
    counter!("plimsoll_state_corrected_total").absolute(state.corrected);
}
