//! `plimsoll check`: everything a start would read, read; nothing opened. The text it prints is a configuration itself.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, json};
use toml::Value;

use super::flags::Flags;
use super::node::Keys;
use super::{Failure, print, require_pods};
use crate::config::Layers;

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The configuration file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let layers = args.flags.layers(Some(&args.file)).map_err(Failure::bad_input)?;
    let config = layers.resolve().map_err(Failure::bad_input)?;
    require_pods(&config)?;
    config.node_config().map_err(Failure::bad_input)?;
    Keys::read(&config)?;
    print(&if args.json { as_json(&layers) } else { as_toml(&layers) });
    Ok(())
}

/// TOML with the source of each value behind it. Paths of secrets are printed, secrets never: they are not in here.
fn as_toml(layers: &Layers) -> String {
    let mut text = String::new();
    let mut section = "";
    for (key, value, source) in layers.effective() {
        match key.split_once('.') {
            Some((top, leaf)) => {
                if top != section {
                    let gap = if section.is_empty() { "" } else { "\n" };
                    text.push_str(&format!("{gap}[{top}]\n"));
                    section = top;
                }
                let line = format!("{leaf} = {value}");
                text.push_str(&format!("{line:<48} # {source}\n"));
            }
            None => text.push_str(&tables(layers, key, value)),
        }
    }
    text
}

fn tables(layers: &Layers, list: &str, tables: &Value) -> String {
    let mut text = String::new();
    for (index, table) in tables.as_array().into_iter().flatten().enumerate() {
        text.push_str(&format!("\n{:<48} # {}\n", format!("[[{list}]]"), layers.source(&format!("{list}[{index}]"))));
        for (key, value) in table.as_table().into_iter().flatten() {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

fn as_json(layers: &Layers) -> String {
    let sources: Map<String, serde_json::Value> =
        layers.effective().map(|(key, _, source)| (key.to_owned(), source.to_string().into())).collect();
    format!("{:#}", json!({ "config": layers.table(), "sources": sources }))
}
