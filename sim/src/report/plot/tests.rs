//! A drawing is looked at by people; what a machine can see of it is seen here.

use roxmltree::Document as Xml;

use super::super::Samples;
use super::*;
use std::time::Duration;

const POLICIES: [&str; 3] = ["plimsoll", "least_work", "a<b & \"c\""];

/// Three policies at some loads and sizes, under two seeds; the k-th takes k + 1 times as long.
fn document(loads: &[f64], nodes: &[usize]) -> Document {
    let mut rows = Vec::new();
    let places = nodes.iter().flat_map(|nodes| loads.iter().map(move |load| (*nodes, *load)));
    for ((nodes, load), seed) in places.flat_map(|place| [(place, 1), (place, 2)]) {
        for (k, policy) in POLICIES.iter().enumerate() {
            let mut samples = Samples::default();
            for ms in 1..=1000 {
                samples.served(Duration::from_millis(ms * (k as u64 + 1) * seed), Duration::from_millis(1), ms < 500);
            }
            let mut row = Row::new(*policy, load, nodes, 8, Some(seed));
            samples.fill(&mut row);
            // The last one sends nothing and knows nothing.
            row.bytes_per_node_s = [5e4, 1e4, 0.0][k];
            row.age_ms = [0.2, 30.0, f64::NAN][k];
            rows.push(row);
        }
    }
    Document::new("cargo sim compare --title '<x> & y'".into(), "abc".into(), vec![1, 2], rows)
}

/// All the words of a drawing, which must be XML.
fn words(svg: &str) -> String {
    let xml = Xml::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    xml.descendants()
        .filter_map(|node| node.is_text().then(|| node.text()).flatten())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("|")
}

/// Numbers of an attribute, of the elements that have such a one.
fn numbers(svg: &str, tag: &str, attribute: &str) -> Vec<f64> {
    let xml = Xml::parse(svg).unwrap();
    let of_tag = xml.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", tag)));
    of_tag.filter_map(|node| node.attribute(attribute)?.parse().ok()).collect()
}

/// A policy's name from a file may hold anything; a drawing that is not XML is shown by nobody.
#[test]
fn every_drawing_is_xml_and_names_its_policies_and_its_recipe() {
    let document = document(&[0.5, 0.9], &[10]);
    let plots = Plots::of(&document);
    let one_load: Vec<_> = document.rows.iter().filter(|row| row.load == 0.9).cloned().collect();
    let drawings = [
        plots.by_load(&document.rows, Metric::P99, "p99 & load"),
        plots.by_nodes(&document.rows, Metric::MEAN, "mean"),
        plots.percentiles(&one_load, "percentiles"),
        plots.bars(&one_load, Metric::P99, Some("plimsoll"), "bars"),
    ];
    for svg in drawings {
        let words = words(&svg);
        for policy in POLICIES {
            assert!(words.contains(policy), "{policy} in {words}");
        }
        assert!(words.contains("cargo sim compare --title '<x> & y' · seeds 1, 2 · plimsoll"), "{words}");
    }
}

/// The bars are lengths from zero: at p99 of 1485 (the mean of 990 and 1980), 2970 and 4455 ms they are as 1, 2 and 3.
#[test]
fn bars_are_as_long_as_their_figures() {
    let document = document(&[0.9], &[10]);
    let svg = Plots::of(&document).bars(&document.rows, Metric::P99, None, "bars");
    let widths = numbers(&svg, "rect", "width");
    // The first is the paper.
    let [_, one, two, three] = widths[..] else { panic!("{widths:?}") };
    assert!((two / one - 2.0).abs() < 0.02 && (three / one - 3.0).abs() < 0.02, "{widths:?}");
    let words = words(&svg);
    assert!(
        words.contains("|1.49 s") && words.contains("2.97 s (× 2.00)") && words.contains("4.46 s (× 3.00)"),
        "{words}"
    );
}

/// Above the chart and below it is other text: a point outside would be drawn over it.
#[test]
fn points_lie_inside_the_chart() {
    let document = document(&[0.5, 0.7, 0.9], &[10]);
    let svg = Plots::of(&document).by_load(&document.rows, Metric::P99, "p99");
    let (x, y) = (numbers(&svg, "circle", "cx"), numbers(&svg, "circle", "cy"));
    assert_eq!((x.len(), y.len()), (9, 9), "three policies at three loads");
    let bottom = f64::from(page::TOP + HEIGHT);
    assert!(y.iter().all(|y| (f64::from(page::TOP)..bottom).contains(y)), "{y:?}");
    // The second policy is twice as slow, so higher up by the same distance at each load.
    assert!(y[3] < y[0] && y[3] - y[0] == y[4] - y[1] && x[3..6] == x[..3], "{y:?}");
}

#[test]
fn a_timeline_names_the_pods_that_the_event_is_about() {
    let pod = |k: usize| PodLine { name: format!("pod-{k}"), marked: k == 3, values: vec![0.1 * k as f64; 4] };
    let timeline = Timeline {
        policy: "p2c".into(),
        seed: 1,
        event: "pod-3 joins".into(),
        event_s: 11.0,
        from_s: 10.0,
        window_s: 0.5,
        words: "busy share".into(),
        unit: Unit::Share,
        pods: (0..5).map(pod).collect(),
    };
    let words = words(&Plots::of(&document(&[0.5], &[10])).over_time(&timeline, "herd"));
    assert!(
        words.contains("pod-3 joins") && words.contains("|pod-3|") && words.contains("busy share of each pod, p2c")
    );
    assert!(!words.contains("|pod-2|"), "the crowd has no names: {words}");
}

/// What there are no rows for must not become an empty picture, and what there are rows for must not be forgotten.
#[test]
fn all_plots_are_those_that_the_rows_bear() {
    let names = |document: &Document| {
        let directory = tempfile::tempdir().unwrap();
        let files = plot_all(document, &directory.path().join("new")).unwrap();
        files.iter().for_each(|file| drop(words(&std::fs::read_to_string(file).unwrap())));
        files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&document(&[0.5], &[10])), ["percentiles-10x8-load-0.5", "p99-by-policy-10x8-load-0.5"]);
    let by_load = names(&document(&[0.5, 0.9], &[10]));
    let by = ["p99", "mean", "wait", "small-p99", "spread", "bytes", "age"].map(|name| format!("{name}-by-load-10x8"));
    assert_eq!(by_load[..6], [&by[..4], &by[5..]].concat(), "no row has a spread");
    let by_nodes = names(&document(&[0.5], &[10, 100]));
    assert_eq!(by_nodes[4..], ["bytes-by-nodes-load-0.5", "age-by-nodes-load-0.5", "p99-by-nodes-load-0.5"]);
}

/// A line at zero for each policy that sends nothing would bury the one that does.
#[test]
fn who_sends_nothing_is_not_on_the_plot_of_bytes() {
    let directory = tempfile::tempdir().unwrap();
    plot_all(&document(&[0.5], &[10, 100]), directory.path()).unwrap();
    let words = words(&std::fs::read_to_string(directory.path().join("bytes-by-nodes-load-0.5.svg")).unwrap());
    assert!(words.contains("plimsoll") && words.contains("least_work") && !words.contains("a<b"), "{words}");
    let blocked = directory.path().join("bytes-by-nodes-load-0.5.svg");
    let error = plot_all(&document(&[0.5], &[10]), &blocked).unwrap_err().to_string();
    assert!(error.starts_with("cannot write `") && error.contains("bytes-by-nodes"), "{error}");
}
