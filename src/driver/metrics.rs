//! Prometheus text, made anew at each scrape from what the node says of itself.
//!
//! Values live in the node; a scrape fills a fresh recorder with them and renders it. So nothing is counted twice, and a
//! pod or node that left is gone from the next scrape, not a line that stands still for ever. Its counters are gone with
//! it: a pod that comes back begins at zero, which Prometheus takes for the counter reset that it is. Events that belong
//! to no view (a failed DNS lookup) are counted by the process's recorder, which [`Metrics`] renders below.

use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::node::Node;
use crate::observe::{MemberView, PodView, View};
use crate::pick::Rung;

/// Series of one metric at most. A fleet has hundreds of pods and nodes; what is over this is counted and left out,
/// because a scrape that grows without bound takes down what reads it.
const MOST_SERIES: usize = 2000;

/// What `/metrics` answers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    events: Option<PrometheusHandle>,
}

impl Metrics {
    /// Metrics of the node's own values only, for programs that have a recorder of their own.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Becomes the recorder of this process, so that events are counted too. Once per process.
    ///
    /// # Errors
    /// Where the process has a recorder already; it keeps that one.
    pub fn install() -> Result<Metrics, BuildError> {
        let events = PrometheusBuilder::new().install_recorder()?;
        describe_counter!(
            "plimsoll_discovery_failures_total",
            "Lookups and reads of discovery that failed, by source."
        );
        describe_counter!(
            "plimsoll_access_log_dropped_total",
            "Lines of the access log that were not written: they came too fast, or the file could not be written."
        );
        describe_gauge!("plimsoll_connections", "Connections of callers that are open, by door.");
        describe_counter!(
            "plimsoll_connections_turned_away_total",
            "Connections that were closed at once because there were as many as may be, by door."
        );
        describe_counter!(
            "plimsoll_connections_closed_total",
            "Connections of callers that this node closed, by why: silent (said nothing that makes sense in time), no_tls, idle."
        );
        describe_counter!(
            "plimsoll_sent_again_total",
            "Requests that went to a pod once more: refused, unread, lost, after a status, or as a hedge."
        );
        describe_counter!(
            "plimsoll_not_sent_again_total",
            "Requests that were not sent again because the retry budget or their own tries were spent."
        );
        describe_counter!(
            "plimsoll_turned_down_total",
            "Requests that were sent to no pod: late (the deadline cannot be met), queue_full, timeout (its own, while it waited)."
        );
        describe_counter!("plimsoll_accept_failures_total", "Times that the system gave no connection, by door.");
        describe_counter!("plimsoll_bodies_stalled_total", "Requests that ended because their bodies stood still.");
        Ok(Metrics { events: Some(events) })
    }

    /// All of it, as Prometheus text; none once the node has left.
    pub async fn render(&self, node: &Node) -> Option<String> {
        let view = node.view().await?;
        let mut text = render(&view, &node.members().await, &node.gossip_stats().await.values(), || shared_state(node));
        #[cfg(feature = "redis")]
        if let Some(state) = node.shared() {
            state.write_ask_times(&mut text);
        }
        if let Some(events) = &self.events {
            // Without this the recorder's histograms would grow from scrape to scrape.
            events.run_upkeep();
            text.push_str(&events.render());
        }
        Some(text)
    }
}

/// What a node with a shared Redis says of that.
fn shared_state(node: &Node) {
    #[cfg(feature = "redis")]
    if let Some(state) = node.state() {
        crate::redis::metrics::describe();
        crate::redis::metrics::values(&state);
    }
    #[cfg(not(feature = "redis"))]
    let _ = node;
}

/// One scrape, with what `more` says.
fn render(
    view: &View,
    members: &[MemberView],
    gossip: &[(&'static str, &'static str, u64)],
    more: impl FnOnce(),
) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe();
        node_values(view);
        for pod in view.pods.iter().take(MOST_SERIES) {
            pod_values(pod);
        }
        member_values(members);
        gossip_values(gossip);
        process_values();
        more();
        let left_out = view.pods.len().saturating_sub(MOST_SERIES) + members.len().saturating_sub(MOST_SERIES);
        gauge!("plimsoll_series_left_out").set(left_out as f64);
    });
    ordered(&recorder.handle().render())
}

/// The exporter hands families and series out in the order of a hash map; two scrapes should differ by what changed.
fn ordered(text: &str) -> String {
    let mut families: Vec<String> = text
        .split("\n\n")
        .filter(|family| !family.is_empty())
        .map(|family| {
            let (mut head, mut series): (Vec<&str>, Vec<&str>) = family.lines().partition(|line| line.starts_with('#'));
            series.sort_unstable();
            head.append(&mut series);
            head.join("\n") + "\n"
        })
        .collect();
    families.sort_unstable();
    families.concat()
}

fn describe() {
    describe_gauge!("plimsoll_build_info", "Always 1; the labels say what runs.");
    describe_gauge!("plimsoll_rung", "The rung of the ladder that picks stand on: 1 for the one, 0 for the others.");
    describe_gauge!("plimsoll_unseen_work_ms", "Work of the other nodes that this one has not heard of yet.");
    describe_gauge!("plimsoll_mean_cost_ms", "Running mean cost of what this node picks for.");
    describe_gauge!(
        "plimsoll_news_age_seconds",
        "How old news is when it arrives here, running mean, by class; all by the work it is about."
    );
    describe_gauge!(
        "plimsoll_news_age_critical_seconds",
        "The news age at which work that is not heard of yet would fill the idle slots: mean service x (1 - load) / load."
    );
    describe_gauge!(
        "plimsoll_news_age_ratio",
        "News age over the critical one, by class: fresh below a quarter, worth little from 1 on."
    );
    describe_gauge!("plimsoll_load", "All work that nodes pick for, as a share of what the pods can do.");
    describe_gauge!("plimsoll_theta_ms", "Changes of requests that cost so much or more are told at once.");
    describe_gauge!("plimsoll_told_at_once_ratio", "The share of this node's work that is told at once, by theta.");
    describe_gauge!("plimsoll_pods", "Pods this node knows, by whether picks avoid them.");
    describe_gauge!("plimsoll_pod_in_flight", "Requests in flight from all nodes, and remainders.");
    describe_gauge!("plimsoll_pod_own_in_flight", "Tickets of this node.");
    describe_gauge!("plimsoll_pod_own_remainders", "Cancelled requests of this node that the pod may still run.");
    describe_gauge!("plimsoll_pod_cost_ms", "Estimated work in flight from all nodes.");
    describe_gauge!(
        "plimsoll_pod_wait_ms",
        "How long a new request would wait there before it begins, by all that is known."
    );
    describe_gauge!("plimsoll_pod_slots", "Requests the pod can run at once.");
    describe_gauge!("plimsoll_pod_speed", "Speed relative to the other pods, configured or learned.");
    describe_gauge!("plimsoll_pod_ejected", "1 where picks of this node avoid the pod.");
    describe_gauge!(
        "plimsoll_pod_start_share",
        "Share of the picks that the pod takes part in: below 1 while it starts slowly."
    );
    describe_counter!("plimsoll_picks_total", "Tickets this node charged.");
    describe_counter!("plimsoll_outcomes_total", "Tickets that ended, by how.");
    describe_gauge!("plimsoll_pod_draining", "1 where the pod is about to end, and gets what no other is left for.");
    describe_gauge!(
        "plimsoll_pod_models_out",
        "Models that picks of this node avoid the pod for, by why: lacking, failing, held_off, on_trial (one request at a time), panic (picked all the same)."
    );
    describe_counter!("plimsoll_ejections_total", "Times this node ejected the pod, or a model of it, by reason.");
    describe_gauge!("plimsoll_members", "Members of the cluster as this node believes, itself included, by state.");
    describe_gauge!("plimsoll_row_age_seconds", "Time since anything was received from the node.");
    describe_gauge!("plimsoll_row_weight", "How much the node's row counts in loads, 0 to 1.");
    describe_gauge!("plimsoll_series_left_out", "Pods and nodes over the bound that have no series here.");
    describe_gauge!("process_resident_memory_bytes", "Resident memory.");
    describe_gauge!("process_open_fds", "Open file descriptors.");
}

fn node_values(view: &View) {
    gauge!("plimsoll_build_info", "version" => env!("CARGO_PKG_VERSION"), "node" => view.node.clone(), "policy" => view.policy)
        .set(1.0);
    for rung in [Rung::Fill, Rung::TwoChoices, Rung::Shuffled] {
        gauge!("plimsoll_rung", "rung" => rung.name()).set(one_if(view.rung == rung.name()));
    }
    gauge!("plimsoll_unseen_work_ms").set(view.unseen_ms);
    gauge!("plimsoll_mean_cost_ms").set(view.mean_cost_ms);
    let ages = [("small", view.news_age_small_ms), ("heavy", view.news_age_heavy_ms), ("all", view.news_age_ms)];
    for (class, age_ms) in ages {
        gauge!("plimsoll_news_age_seconds", "class" => class).set(age_ms / 1e3);
        if let Some(critical_ms) = view.critical_age_ms {
            gauge!("plimsoll_news_age_ratio", "class" => class).set(age_ms / critical_ms.max(1e-3));
        }
    }
    if let Some(critical_ms) = view.critical_age_ms {
        gauge!("plimsoll_news_age_critical_seconds").set(critical_ms / 1e3);
    }
    gauge!("plimsoll_load").set(view.load);
    gauge!("plimsoll_theta_ms").set(view.theta_ms);
    gauge!("plimsoll_told_at_once_ratio").set(view.told_at_once);
    let ejected = view.pods.iter().filter(|pod| pod.ejected).count();
    gauge!("plimsoll_pods", "state" => "admitted").set((view.pods.len() - ejected) as f64);
    gauge!("plimsoll_pods", "state" => "ejected").set(ejected as f64);
}

fn pod_values(pod: &PodView) {
    let name = || pod.name.clone();
    gauge!("plimsoll_pod_in_flight", "pod" => name()).set(pod.in_flight);
    gauge!("plimsoll_pod_own_in_flight", "pod" => name()).set(f64::from(pod.own_in_flight));
    gauge!("plimsoll_pod_own_remainders", "pod" => name()).set(f64::from(pod.own_remainders));
    gauge!("plimsoll_pod_cost_ms", "pod" => name()).set(pod.cost_ms);
    gauge!("plimsoll_pod_wait_ms", "pod" => name()).set(pod.wait_ms);
    gauge!("plimsoll_pod_slots", "pod" => name()).set(f64::from(pod.slots));
    gauge!("plimsoll_pod_speed", "pod" => name()).set(pod.speed);
    gauge!("plimsoll_pod_ejected", "pod" => name()).set(one_if(pod.ejected));
    gauge!("plimsoll_pod_start_share", "pod" => name()).set(pod.start_share);
    counter!("plimsoll_picks_total", "pod" => name()).absolute(pod.picks);
    gauge!("plimsoll_pod_draining", "pod" => name()).set(one_if(pod.draining));
    for why in ["lacking", "failing", "held_off", "on_trial", "panic"] {
        let count = pod.models_out.iter().filter(|model| model.why == why).count();
        gauge!("plimsoll_pod_models_out", "pod" => name(), "why" => why).set(count as f64);
    }
    for (reason, count) in &pod.ejections_by {
        counter!("plimsoll_ejections_total", "pod" => name(), "reason" => *reason).absolute(*count);
    }
    let outcomes =
        [("served", pod.served), ("failed", pod.failed), ("refused", pod.refused), ("cancelled", pod.cancelled)];
    for (outcome, count) in outcomes {
        counter!("plimsoll_outcomes_total", "pod" => name(), "outcome" => outcome).absolute(count);
    }
}

fn member_values(members: &[MemberView]) {
    for state in ["alive", "suspect", "down", "left"] {
        let count = members.iter().filter(|member| member.state == state).count();
        gauge!("plimsoll_members", "state" => state).set(count as f64);
    }
    for member in members.iter().filter(|member| !member.this_node).take(MOST_SERIES) {
        if let Some(age_ms) = member.row_age_ms {
            gauge!("plimsoll_row_age_seconds", "node" => member.name.clone()).set(age_ms / 1e3);
        }
        gauge!("plimsoll_row_weight", "node" => member.name.clone()).set(member.weight);
    }
}

fn gossip_values(gossip: &[(&'static str, &'static str, u64)]) {
    for (name, kind, value) in gossip {
        let metric = format!("plimsoll_gossip_{name}");
        let labels: Vec<(&str, &str)> = if kind.is_empty() { Vec::new() } else { vec![("kind", *kind)] };
        if name.ends_with("_total") {
            describe_counter!(metric.clone(), gossip_help(name));
            counter!(metric, &labels).absolute(*value);
        } else {
            describe_gauge!(metric.clone(), gossip_help(name));
            gauge!(metric, &labels).set(*value as f64);
        }
    }
}

fn gossip_help(name: &str) -> &'static str {
    match name {
        "messages_sent_total" => "Messages given to the transport, by kind.",
        "message_bytes_sent_total" => "Bytes of those messages, without QUIC's own.",
        "messages_received_total" => "Messages that decoded, by kind.",
        "message_bytes_received_total" => "Bytes of those messages, without QUIC's own.",
        "messages_refused_total" => "Messages that were not used, or not all of them, by reason.",
        "udp_datagrams_sent_total" => "UDP datagrams sent, QUIC's own included.",
        "udp_bytes_sent_total" => "Payload of the UDP datagrams sent.",
        "udp_datagrams_received_total" => "UDP datagrams that arrived, strangers' noise included.",
        "udp_bytes_received_total" => "Payload of the UDP datagrams that arrived.",
        "changes_total" => "Changes of own counts, by whether they were told at once or waited for a flush.",
        "work_told_ms_total" => "Work of the requests whose changes were told, by whether at once or later, in ms.",
        "rows_sent_total" => "Messages with rows sent, by why: at_once, flush, refresh.",
        "rows_bytes_sent_total" => "Bytes of those messages, without QUIC's own.",
        "relay_news_total" => {
            "Others' small news at this node as a relay: passed_on (for each receiver), late and crowded (dropped), strange (refused); and what came by relays: used, unused."
        }
        "renewals_total" => "SWIM identities taken to win against what the cluster knew.",
        "rung_steps_total" => "Steps on the ladder, down and up.",
        "swim_errors_total" => "Packets that foca refused (packet), and defects (internal).",
        "missed_total" => "Changes and remainders that overflowed their queue from picks.",
        "corrected_remainders_total" => {
            "Cancelled requests that were charged no longer than to a pod's word that nothing more waits there."
        }
        "strict_picks_total" => "Picks that strict mode was asked for, by who decided: an owner, or why none did.",
        "strict_late_total" => "Grants that came when the pick was made, and were given back.",
        "strict_questions_total" => "Questions that this node answered as the owner of a shard.",
        "strict_reservations_held" => "Reservations for others that no row tells of yet.",
        "strict_picks_waiting" => "Picks that wait for an owner now.",
        "strict_shards_owned" => "Shards that this node owns.",
        "dropped_total" => "Messages dropped: pushed out of the inbox, or unsent for lack of a connection.",
        "dials_failed_total" => "Attempts to reach a member that failed.",
        "connections_refused_total" => "Connections of strangers that were refused.",
        "connections" => "Connections to members that are up.",
        "loop_lag_max_us" => "The latest that a timer of gossip was ever served, in microseconds.",
        _ => "See GossipStats in the library's documentation.",
    }
}

/// What the process itself uses, where the system says so in files.
fn process_values() {
    let resident = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    if let Some(kib) = resident {
        gauge!("process_resident_memory_bytes").set(kib * 1024.0);
    }
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(fds.count() as f64);
    }
}

fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::ModelOut;

    fn pod(name: &str) -> PodView {
        PodView {
            name: name.to_owned(),
            id: String::new(),
            addr: String::new(),
            zone: None,
            slots: 2,
            speed: 1.0,
            ejected: false,
            start_share: 0.25,
            in_flight: 3.5,
            own_in_flight: 1,
            peers_in_flight: 2.5,
            own_remainders: 0,
            cost_ms: 30.0,
            wait_ms: 12.5,
            picks: 10,
            served: 6,
            failed: 1,
            refused: 0,
            cancelled: 2,
            ejections: 4,
            ejections_by: [("unreachable", 3), ("fails_in_a_row", 1)].into(),
            draining: true,
            models_out: vec![ModelOut { model: "m".into(), why: "failing", for_ms: Some(2500.0) }],
            peers: Vec::new(),
        }
    }

    fn view(pods: Vec<PodView>) -> View {
        View {
            node: "a".into(),
            policy: "plimsoll",
            rung: "two_choices",
            unseen_ms: 1.5,
            news_age_ms: 3.0,
            critical_age_ms: Some(8.0),
            load: 0.5,
            mean_cost_ms: 4.0,
            theta_ms: 64.0,
            told_at_once: 0.875,
            news_age_small_ms: 20.0,
            news_age_heavy_ms: 2.0,
            pods,
            costs: Vec::new(),
        }
    }

    fn member(name: &str, state: &'static str, this_node: bool) -> MemberView {
        MemberView {
            name: name.into(),
            id: String::new(),
            addr: String::new(),
            state,
            epoch: 1,
            r#gen: 0,
            this_node,
            row_age_ms: Some(250.0),
            weight: 1.0,
        }
    }

    /// A dashboard stands on names, units and labels: each is asked for as Prometheus reads it.
    #[test]
    fn a_scrape_says_what_the_view_says() {
        let mut ejected = pod("t1");
        ejected.ejected = true;
        let members = [member("a", "alive", true), member("b", "alive", false), member("c", "down", false)];
        let gossip = [("messages_sent_total", "rows", 7), ("connections", "", 2)];
        let text = render(&view(vec![pod("t0"), ejected]), &members, &gossip, || {});
        for line in [
            "plimsoll_pod_in_flight{pod=\"t0\"} 3.5",
            "plimsoll_pod_own_in_flight{pod=\"t0\"} 1",
            "plimsoll_pod_cost_ms{pod=\"t0\"} 30",
            "plimsoll_picks_total{pod=\"t0\"} 10",
            "plimsoll_outcomes_total{pod=\"t0\",outcome=\"served\"} 6",
            "plimsoll_outcomes_total{pod=\"t0\",outcome=\"cancelled\"} 2",
            "plimsoll_pod_ejected{pod=\"t0\"} 0",
            "plimsoll_pod_ejected{pod=\"t1\"} 1",
            "plimsoll_pod_start_share{pod=\"t0\"} 0.25",
            "plimsoll_ejections_total{pod=\"t1\",reason=\"unreachable\"} 3",
            "plimsoll_ejections_total{pod=\"t1\",reason=\"fails_in_a_row\"} 1",
            "plimsoll_pod_models_out{pod=\"t1\",why=\"failing\"} 1",
            "plimsoll_pod_models_out{pod=\"t1\",why=\"lacking\"} 0",
            "plimsoll_pod_draining{pod=\"t1\"} 1",
            "plimsoll_pods{state=\"ejected\"} 1",
            "plimsoll_row_age_seconds{node=\"b\"} 0.25",
            "plimsoll_news_age_seconds{class=\"heavy\"} 0.002",
            "plimsoll_news_age_ratio{class=\"heavy\"} 0.25",
            "plimsoll_news_age_ratio{class=\"all\"} 0.375",
            "plimsoll_news_age_critical_seconds 0.008",
            "plimsoll_load 0.5",
            "plimsoll_theta_ms 64",
            "plimsoll_told_at_once_ratio 0.875",
            "plimsoll_unseen_work_ms 1.5",
            "plimsoll_members{state=\"alive\"} 2",
            "plimsoll_members{state=\"suspect\"} 0",
            "plimsoll_members{state=\"down\"} 1",
            "plimsoll_rung{rung=\"two_choices\"} 1",
            "plimsoll_rung{rung=\"fill\"} 0",
            "plimsoll_gossip_messages_sent_total{kind=\"rows\"} 7",
            "plimsoll_gossip_connections 2",
            "plimsoll_series_left_out 0",
            "# TYPE plimsoll_picks_total counter",
            "# HELP plimsoll_pod_in_flight Requests in flight from all nodes, and remainders.",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("node=\"a\"}"), "a node does not age in its own eyes");
        let metrics = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|rest| rest.split(' ').next());
        for metric in metrics.flatten() {
            assert!(text.contains(&format!("# HELP {metric} ")), "{metric} has no help");
        }
    }

    /// A pod that left must not stay on dashboards as a line that never moves.
    #[test]
    fn what_left_is_gone_from_the_next_scrape() {
        assert!(render(&view(vec![pod("t0")]), &[], &[], || {}).contains("t0"));
        assert!(!render(&view(Vec::new()), &[], &[], || {}).contains("t0"));
    }

    /// The order must come from the names, or every scrape is a new text.
    #[test]
    fn two_scrapes_of_the_same_view_are_the_same() {
        let pods = || (0..20).map(|n| pod(&format!("t{n}"))).collect();
        let stable = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("process_")).map(str::to_owned).collect()
        };
        assert_eq!(stable(render(&view(pods()), &[], &[], || {})), stable(render(&view(pods()), &[], &[], || {})));
    }

    /// Over the bound series are left out, and the number of them is said.
    #[test]
    fn series_are_bounded() {
        let pods = (0..MOST_SERIES + 5).map(|n| pod(&format!("t{n}"))).collect();
        let text = render(&view(pods), &[], &[], || {});
        assert_eq!(text.lines().filter(|line| line.starts_with("plimsoll_picks_total{")).count(), MOST_SERIES);
        assert!(text.contains("plimsoll_series_left_out 5"));
    }
}
