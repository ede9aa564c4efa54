//! The report: one HTML file that needs nothing else, to read, to print or to attach to a mail.

use std::fmt::Write as _;

use super::chart;
use super::figures::{Phase, Ratio};
use super::plan::{PLIMSOLL, Plan, Pods, Source, rate_of};
use super::table::{COLUMNS, number, ratio_row};
use super::trace::LARGE_SHARE;

const STYLE: &str = include_str!("report.css");

/// The whole page. `command` is what the user typed.
pub(super) fn html(plan: &Plan, phases: &[Phase], command: &str) -> Result<String, Box<dyn std::error::Error>> {
    let key = key(phases);
    let mut page = String::new();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>plimsoll demo</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )?;
    page += &opening(plan, phases);
    page += &warning(phases);
    page += &latency_table(phases);
    let figures = [
        (
            "Latency by percentile",
            "Milliseconds from the scheduled arrival to the whole answer; both axes are logarithmic.",
            chart::percentiles(phases)?,
        ),
        (
            "Latency over time",
            "The p99 of the requests that arrived in each second of the trace.",
            chart::over_time(phases)?,
        ),
        (
            "Busy share of each pod",
            "Service time as its own statistics tell it, over the length of the phase and its slots.",
            chart::busy_shares(phases)?,
        ),
    ];
    for (title, caption, svg) in figures {
        write!(page, "<h2>{title}</h2>\n<p class=\"note\">{caption}</p>\n{key}<figure>{svg}</figure>\n")?;
    }
    page += &measured(plan, phases);
    page += &parameters(plan, command);
    page += "</main>\n</body>\n</html>\n";
    Ok(page)
}

fn opening(plan: &Plan, phases: &[Phase]) -> String {
    let played = phases.first().map_or(0, |phase| phase.summary.requests);
    let (title, cards) = match Ratio::of(phases) {
        Some(ratio) => (
            format!("{}, then plimsoll: the same requests at the same moments", words(ratio.over)),
            cards(phases, ratio),
        ),
        None => ("One trace, played as it was asked for".to_owned(), String::new()),
    };
    format!(
        "<p class=\"eyebrow\">plimsoll demo</p>\n<h1>{title}</h1>\n\
         <p class=\"lead\">{played} measured requests for each policy, to {} pods through {} gossiping nodes, at {:.0} % load.</p>\n{cards}",
        plan.pods.count(),
        plan.nodes,
        plan.load() * 100.0
    )
}

fn warning(phases: &[Phase]) -> String {
    let late: Vec<_> = phases.iter().filter(|phase| phase.is_late()).map(|phase| phase.policy).collect();
    if late.is_empty() {
        return String::new();
    }
    format!(
        "<p class=\"warning\">This machine was too busy for figures to trust: under {} the generator itself was behind the \
         trace. Run it again on a quieter machine, or with a lower --load or fewer --pods.</p>\n",
        late.join(" and ")
    )
}

fn cards(phases: &[Phase], ratio: Ratio) -> String {
    let summary = |name| phases.iter().find(|phase| phase.policy == name).map(|phase| phase.summary);
    let (Some(other), Some(ours)) = (summary(ratio.over), summary(PLIMSOLL)) else { return String::new() };
    let card = |what: &str, from: f64, to: f64| {
        let change = (to / from - 1.0) * 100.0;
        let sign = if change < 0.0 { "−" } else { "+" };
        format!(
            "<div class=\"card\"><b>{sign}{:.0} %</b><span>{what}: {} → {} ms</span></div>\n",
            change.abs(),
            number(from),
            number(to)
        )
    };
    format!(
        "<div class=\"cards\">\n{}{}{}</div>\n",
        card("mean", other.mean_ms, ours.mean_ms),
        card("p99", other.p99_ms, ours.p99_ms),
        card("p99 of small requests", other.small_p99_ms, ours.small_p99_ms)
    )
}

/// `round_robin` as a heading says it.
fn words(policy: &str) -> String {
    let spaced = policy.replace('_', " ");
    let mut letters = spaced.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn key(phases: &[Phase]) -> String {
    let entry =
        |(phase, colour): (&Phase, _)| format!("<li><i data-c=\"{}\"></i>{}</li>", chart::hex(colour), phase.policy);
    let entries: String = phases.iter().zip(chart::colours(phases)).map(entry).collect();
    format!("<ul class=\"key\">{entries}</ul>\n")
}

fn latency_table(phases: &[Phase]) -> String {
    let head: String = COLUMNS.iter().map(|(name, _)| format!("<th>{name}, ms</th>")).collect();
    let row = |phase: &Phase| {
        let cells: String =
            COLUMNS.iter().map(|(_, figure)| format!("<td>{}</td>", number(figure(&phase.summary)))).collect();
        let (requests, errors) = (phase.summary.requests, phase.summary.errors);
        format!("<tr><td>{}</td><td>{requests}</td><td>{errors}</td>{cells}</tr>\n", phase.policy)
    };
    let rows: String = phases.iter().map(row).collect();
    let ratio = ratio_row(phases).map_or(String::new(), |(label, ratios)| {
        let cells: String = ratios.iter().map(|ratio| format!("<td>{ratio}</td>")).collect();
        format!("<tr class=\"ratio\"><td>{label}</td><td></td><td></td>{cells}</tr>\n")
    });
    format!(
        "<h2>Figures</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>policy</th><th>requests</th><th>errors</th>{head}</tr></thead>\n\
         <tbody>\n{rows}{ratio}</tbody>\n</table></div>\n"
    )
}

fn measured(plan: &Plan, phases: &[Phase]) -> String {
    let late = phases.iter().map(|phase| phase.late_p99).max().unwrap_or_default();
    let mut text = format!(
        "<h2>How it was measured</h2>\n\
         <p>{} It was played once for each policy, through fresh nodes that had found each other over QUIC.</p>\n\
         <p>The loop is open: a request leaves at its moment whether or not earlier ones were answered, and its latency counts \
         from that moment. The first tenth of each phase was played and not measured. Errors have no latency and are counted \
         apart. The generator itself was behind by {:.1} ms at its p99.</p>\n",
        origin(plan),
        late.as_secs_f64() * 1e3,
    );
    for phase in phases {
        if let Some(error) = &phase.example_error {
            text += &format!("<p>An error under {}: <code>{}</code></p>\n", phase.policy, escaped(error));
        }
    }
    text
}

/// Where the trace came from.
fn origin(plan: &Plan) -> String {
    match &plan.source {
        Source::Drawn { .. } => format!(
            "One trace was drawn from the seed before anything started: Poisson arrivals, {:.0} % of them small (100 B, \
             5 ms of service), {:.0} % large (5000 B, 120 ms), each bound to one of {} nodes.",
            (1.0 - LARGE_SHARE) * 100.0,
            LARGE_SHARE * 100.0,
            plan.nodes
        ),
        Source::Recorded(file) => format!(
            "The trace is a recording, <code>{}</code>: {} requests at its moments, each with its own payload and service \
             time, each bound to one of {} nodes.",
            escaped(&file.display().to_string()),
            plan.trace.arrivals.len(),
            plan.nodes
        ),
    }
}

fn parameters(plan: &Plan, command: &str) -> String {
    let pods = match &plan.pods {
        Pods::Start(count) => format!("{count} test pods of plimsoll's own, {} at once each", plan.slots),
        Pods::Running(urls) => format!("{} running pods, taken to run {} at once each", urls.len(), plan.slots),
    };
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    let (held, rate) =
        (plan.trace.load(plan.all_slots()), plan.trace.arrivals.len() as f64 / plan.length.as_secs_f64());
    let (source, load) = match &plan.source {
        Source::Drawn { load, seed } => (
            ("Seed", seed.to_string()),
            format!(
                "{load:.2} of what the pods can do, {:.1} requests a second; the trace as drawn holds {held:.2}",
                rate_of(*load, plan.all_slots())
            ),
        ),
        Source::Recorded(file) => (
            ("Trace", escaped(&file.display().to_string())),
            format!("{held:.2} of what the pods can do, {rate:.1} requests a second"),
        ),
    };
    let rows = [
        ("Command", format!("<code>{}</code>", escaped(command))),
        source,
        ("Pods", pods),
        ("Nodes", plan.nodes.to_string()),
        ("Load", load),
        ("Phase", format!("{} s for each policy", plan.length.as_secs())),
        ("Model", escaped(&plan.model)),
        ("Cores", cores),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n")).collect();
    format!("<h2>Parameters</h2>\n<dl>\n{rows}</dl>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
