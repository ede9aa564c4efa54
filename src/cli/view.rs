//! What `plimsoll view` and `plimsoll members` print. Fields that an older node does not send are shown as zero; fields
//! that a newer one adds are ignored.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Color, Table};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct View {
    node: String,
    policy: String,
    rung: String,
    unseen_ms: f64,
    pods: Vec<Pod>,
    state: Option<State>,
}

/// A Redis that all nodes share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    redis: String,
    rung: String,
    steps_down: u64,
    steps_up: u64,
    asked: u64,
    answered: u64,
    missed: BTreeMap<String, u64>,
    unasked: u64,
    waiting: u64,
    ask_ms: Quantiles,
    last_trouble: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod {
    name: String,
    addr: String,
    slots: u32,
    ejected: bool,
    start_share: Option<f64>,
    draining: bool,
    models_out: Vec<ModelOut>,
    in_flight: f64,
    own_in_flight: u32,
    peers_in_flight: f64,
    cost_ms: f64,
    wait_ms: f64,
    served: u64,
    failed: u64,
    cancelled: u64,
    peers: Vec<Peer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelOut {
    model: String,
    why: String,
    for_ms: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Peer {
    news_age_ms: f64,
    row_age_ms: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Member {
    name: String,
    state: String,
    addr: String,
    epoch: u64,
    r#gen: u32,
    this_node: bool,
    row_age_ms: Option<f64>,
    weight: f64,
}

/// The pods, under a line about the node.
pub(super) fn view(view: View) -> String {
    let mut table = plain_table();
    table.set_header([
        "pod",
        "address",
        "slots",
        "in flight",
        "own",
        "peers",
        "cost ms",
        "wait ms",
        "news age",
        "row age",
        "state",
        "served",
        "failed",
        "cancelled",
    ]);
    let mut in_flight = 0.0;
    for pod in &view.pods {
        in_flight += pod.in_flight;
        let oldest = |age: fn(&Peer) -> f64| pod.peers.iter().map(age).max_by(f64::total_cmp);
        table.add_row([
            Cell::new(&pod.name),
            Cell::new(&pod.addr),
            number(pod.slots),
            number(rounded(pod.in_flight)),
            number(pod.own_in_flight),
            number(rounded(pod.peers_in_flight)),
            number(format!("{:.1}", pod.cost_ms)),
            number(format!("{:.1}", pod.wait_ms)),
            number(age(oldest(|peer| peer.news_age_ms))),
            number(age(oldest(|peer| peer.row_age_ms))),
            state(pod),
            number(pod.served),
            number(pod.failed),
            number(pod.cancelled),
        ]);
    }
    let View { node, policy, rung, unseen_ms, pods, state } = &view;
    format!(
        "node {node}  policy {policy}  rung {rung}  pods {}  in flight {}  unseen {unseen_ms:.1} ms\n{}{table}{}",
        pods.len(),
        rounded(in_flight),
        state.as_ref().map_or_else(String::new, shared),
        models_out(pods),
    )
}

/// How it goes with the shared Redis: a line, and another one where something went wrong last.
fn shared(state: &State) -> String {
    let State { redis, rung, steps_down, steps_up, asked, answered, unasked, waiting, .. } = state;
    let Quantiles { p50, p99 } = state.ask_ms;
    let missed: u64 = state.missed.values().sum();
    let why = state.missed.iter().filter(|(_, count)| **count > 0).map(|(why, count)| format!("{why} {count}"));
    let why = why.collect::<Vec<_>>().join(", ");
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    let trouble = state.last_trouble.as_ref().map_or_else(String::new, |trouble| format!("it last {trouble}\n"));
    format!(
        "state {redis}  decides {rung}  steps {steps_down} down {steps_up} up  asked {asked}  answered {answered}  \
         missed {missed}{why}  unasked {unasked}  waiting {waiting}  ask p50 {p50:.2} ms p99 {p99:.2} ms\n{trouble}"
    )
}

/// Which pods are left alone for which models, a line each: the first of them, where they are many. That a pod lacks models is
/// how some fleets are made.
fn models_out<'a>(pods: &'a [Pod]) -> String {
    const MOST: usize = 20;
    let out = |pod: &Pod, out: &ModelOut| {
        let span = out.for_ms.map_or_else(String::new, |ms| format!(" for {}", age(Some(ms))));
        format!("\n{}  {}  {}{span}", pod.name, out.model, out.why)
    };
    let of = |pod: &'a Pod| std::iter::repeat(pod).zip(&pod.models_out);
    let unusual = |(_, out): &(&Pod, &ModelOut)| out.why != "lacking";
    let all: Vec<(&Pod, &ModelOut)> = pods.iter().flat_map(of).filter(unusual).collect();
    let more = if all.len() > MOST { format!("\nand {} more", all.len() - MOST) } else { String::new() };
    all.iter().take(MOST).map(|(pod, model)| out(pod, model)).collect::<String>() + &more
}

/// The members, the node that was asked with a star.
pub(super) fn members(members: Vec<Member>) -> String {
    let mut table = plain_table();
    table.set_header(["node", "state", "address", "epoch", "gen", "row age", "weight"]);
    for member in &members {
        let name = if member.this_node { format!("{} *", member.name) } else { member.name.clone() };
        let state = match member.state.as_str() {
            "alive" => Cell::new("alive"),
            "suspect" => Cell::new("suspect").fg(Color::Yellow),
            other => Cell::new(other).fg(Color::Red),
        };
        table.add_row([
            Cell::new(name),
            state,
            Cell::new(&member.addr),
            number(member.epoch),
            number(member.r#gen),
            number(age(member.row_age_ms)),
            number(format!("{:.2}", member.weight)),
        ]);
    }
    format!("{} members, * is the node that was asked\n{table}", members.len())
}

/// Columns and nothing else: easy to read, easy to cut. comfy-table styles only where stdout is a terminal.
fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// Whole where it is whole: fractions come only from rows that fade.
fn rounded(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn age(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1e3),
    }
}

/// Whether picks go there.
fn state(pod: &Pod) -> Cell {
    let failing = pod.models_out.iter().filter(|out| out.why != "lacking").count();
    match pod.start_share {
        _ if pod.ejected => Cell::new("ejected").fg(Color::Red),
        _ if pod.draining => Cell::new("draining").fg(Color::Yellow),
        _ if failing > 0 => Cell::new(format!("unfit:{failing}")).fg(Color::Yellow),
        Some(share) if share < 1.0 => Cell::new(format!("starting:{:.0}%", 100.0 * share)).fg(Color::Yellow),
        _ => Cell::new("in"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view must be readable at a glance: one line about the node, one line per pod, the oldest news named.
    #[test]
    fn a_view_is_one_line_per_pod() {
        let json = r#"{"node":"a","policy":"plimsoll","rung":"fill","unseen_ms":1.25,"mean_cost_ms":3,"pods":[
            {"name":"t0","id":"00","addr":"http://h:1","slots":2,"ejected":true,"in_flight":3.5,"own_in_flight":1,
             "peers_in_flight":2.5,"cost_ms":30.04,"wait_ms":12.0,"served":7,"failed":1,"cancelled":2,"picks":10,
             "peers":[{"node":"b","news_age_ms":3,"row_age_ms":2500.0},{"node":"c","news_age_ms":40,"row_age_ms":20}]}]}"#;
        let text = view(serde_json::from_str(json).unwrap());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            text.lines().next().unwrap(),
            "node a  policy plimsoll  rung fill  pods 1  in flight 3.5  unseen 1.2 ms"
        );
        assert_eq!(
            lines[2],
            [
                "t0",
                "http://h:1",
                "2",
                "3.5",
                "1",
                "2.5",
                "30.0",
                "12.0",
                "40",
                "ms",
                "2.5",
                "s",
                "ejected",
                "7",
                "1",
                "2"
            ]
        );
        assert!(!text.contains('\u{1b}'), "no colour without a terminal");
        let state = r#""state":{"mode":"redis","redis":"redis://h:6379","rung":"gossip","steps_down":1,"steps_up":1,"asked":9,
            "answered":6,"missed":{"late":3,"failed":0},"unasked":40,"waiting":0,"ask_ms":{"p50":0.2,"p99":5.01},
            "last_trouble":"does not answer within 5 ms"},"pods""#;
        let text = view(serde_json::from_str(&json.replace("\"pods\"", state)).unwrap());
        let lines: Vec<&str> = text.lines().skip(1).take(2).collect();
        assert_eq!(
            lines,
            [
                "state redis://h:6379  decides gossip  steps 1 down 1 up  asked 9  answered 6  missed 3 (late 3)  unasked 40  waiting 0  ask p50 0.20 ms p99 5.01 ms",
                "it last does not answer within 5 ms"
            ]
        );
        let starting = json.replace("\"ejected\":true", "\"ejected\":false,\"start_share\":0.25");
        assert!(view(serde_json::from_str(&starting).unwrap()).contains(" starting:25% "));
        let draining = json.replace("\"ejected\":true", "\"draining\":true");
        assert!(view(serde_json::from_str(&draining).unwrap()).contains(" draining "));
        let out = r#"[{"model":"m","why":"failing","for_ms":8100},{"model":"n","why":"on_trial"},{"model":"o","why":"lacking"}]"#;
        let failing = json.replace("\"ejected\":true", &format!("\"models_out\":{out}"));
        let text = view(serde_json::from_str(&failing).unwrap());
        assert!(text.contains(" unfit:2 ") && text.ends_with("\nt0  m  failing for 8.1 s\nt0  n  on_trial"), "{text}");
    }

    /// A member that was never heard has no row age, and that is not zero.
    #[test]
    fn a_member_that_was_never_heard_has_no_row_age() {
        let json = r#"[{"name":"a","id":"0","addr":"h:1","state":"alive","epoch":3,"gen":1,"this_node":true,"row_age_ms":null,"weight":1.0}]"#;
        let text = members(serde_json::from_str(json).unwrap());
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["a", "*", "alive", "h:1", "3", "1", "-", "1.00"]);
    }
}
