//! Defaults < file < environment < flags: one table, and beside it where each value came from.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Source, one_line, shown};
use super::keys::{self, KEYS, Key, Kind};
use super::{Config, defaults, raw};

/// A configuration on its way: layers are put on top of each other, then [`Layers::resolve`] reads it once.
///
/// ```
/// use plimsoll::config::Layers;
///
/// let layers = Layers::new()
///     .text("[node]\nname = 'a'\ngrpc = '127.0.0.1:9001'")?
///     .variables([("PLIMSOLL_NAME".into(), "b".into())])?
///     .flag("grpc", &["127.0.0.1:9002".into()])?;
/// let config = layers.resolve()?;
/// assert_eq!((config.name.as_str(), config.grpc.port()), ("b", 9002));
/// assert_eq!(layers.source("node.name").to_string(), "PLIMSOLL_NAME");
/// # Ok::<(), plimsoll::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layers {
    table: Table,
    /// By dotted key; within `pods` by position too (`pods[0].grpc`).
    sources: BTreeMap<String, Source>,
}

impl Default for Layers {
    fn default() -> Layers {
        Layers::new()
    }
}

impl Layers {
    /// The defaults alone.
    pub fn new() -> Layers {
        Layers { table: defaults::table(), sources: BTreeMap::new() }
    }

    /// Puts the file at `path` on top.
    ///
    /// # Errors
    /// [`ConfigError`] where it cannot be read, is not TOML, or has an unknown key.
    pub fn file(self, path: &Path) -> Result<Layers, ConfigError> {
        self.document(Some(path), &read(path)?)
    }

    /// Puts TOML on top.
    ///
    /// # Errors
    /// [`ConfigError`] where it is not TOML or has an unknown key.
    pub fn text(self, text: &str) -> Result<Layers, ConfigError> {
        self.document(None, text)
    }

    /// Puts the environment on top: of `variables`, those that begin with `PLIMSOLL_`.
    ///
    /// # Errors
    /// [`ConfigError`] where one of them is unknown (a typo would silently mean the default) or does not parse.
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Layers, ConfigError> {
        let mut ours: BTreeMap<String, String> =
            variables.into_iter().filter(|(name, value)| is_ours(name, value)).collect();
        for key in KEYS {
            let mut taken = false;
            for name in key.variables() {
                if let Some(value) = ours.remove(&name).filter(|_| !taken) {
                    taken = true;
                    self.put(key, &split(key.kind, &value), Source::Variable(name))?;
                }
            }
        }
        match ours.into_keys().next() {
            None => Ok(self),
            Some(name) => Err(ConfigError::UnknownVariable { hint: variable_hint(&name), name: one_line(&name) }),
        }
    }

    /// Puts the flag `--name` on top; several values where it was repeated.
    ///
    /// # Errors
    /// [`ConfigError`] where there is no such flag or a value does not parse.
    pub fn flag(mut self, name: &str, values: &[String]) -> Result<Layers, ConfigError> {
        let at = Source::Flag(format!("--{name}"));
        let Some(key) = KEYS.iter().find(|key| key.flag == Some(name)) else {
            let hint = "see plimsoll node --help".to_owned();
            return Err(ConfigError::UnknownKey { at, key: one_line(name), hint });
        };
        let values: Vec<String> = values.iter().flat_map(|value| split(key.kind, value)).collect();
        self.put(key, &values, at)?;
        Ok(self)
    }

    /// Reads what the layers say together.
    ///
    /// # Errors
    /// [`ConfigError`]: the first value that cannot be used.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        raw::read(self)
    }

    /// Where the value of the dotted `key` came from; of a part of a list, where the list did.
    pub fn source(&self, key: &str) -> &Source {
        let mut key = key;
        loop {
            if let Some(source) = self.sources.get(key) {
                return source;
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return &Source::Default,
            }
        }
    }

    /// What the layers say together, as TOML.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Every key that has a value, in the order of the documentation: dotted key, value, where it came from.
    pub fn effective(&self) -> impl Iterator<Item = (&'static str, &Value, &Source)> {
        KEYS.iter().filter_map(|key| Some((key.path, self.value(key.path)?, self.source(key.path))))
    }

    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        match path.split_once('.') {
            Some((section, leaf)) => self.table.get(section)?.get(leaf),
            None => self.table.get(path),
        }
    }

    /// A path as its writer meant it: in a file relative to that file, elsewhere to the working directory.
    pub(super) fn path(&self, key: &str, path: &str) -> PathBuf {
        match self.source(key) {
            Source::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
            _ => PathBuf::from(path),
        }
    }

    fn document(mut self, path: Option<&Path>, text: &str) -> Result<Layers, ConfigError> {
        let parsed = Parsed::new(path, text)?;
        parsed.check_keys(|key| keys::find(key).is_some())?;
        for list in parsed.table.keys().filter(|name| keys::is_list(name)) {
            self.forget(list);
        }
        for (name, value) in parsed.table {
            match (self.table.get_mut(&name), value) {
                (Some(Value::Table(below)), Value::Table(above)) => below.extend(above),
                (_, value) => drop(self.table.insert(name, value)),
            }
        }
        // A section that is there says nothing about the keys that are not.
        self.sources.extend(parsed.sources.into_iter().filter(|(key, _)| !keys::is_section(key)));
        Ok(self)
    }

    /// Puts one value from outside a file on top.
    fn put(&mut self, key: &Key, values: &[String], at: Source) -> Result<(), ConfigError> {
        let value = parse(key, values, &at)?;
        match key.path.split_once('.') {
            Some((section, leaf)) => {
                let section = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(section) = section {
                    section.insert(leaf.to_owned(), value);
                }
            }
            None => {
                self.forget(key.path);
                self.table.insert(key.path.to_owned(), value);
            }
        }
        self.sources.insert(key.path.to_owned(), at);
        Ok(())
    }

    /// A list of a lower layer is replaced as a whole; so is where it came from.
    fn forget(&mut self, list: &str) {
        self.sources.retain(|key, _| !key.starts_with(list));
    }
}

/// A TOML document with the line of every key.
pub(super) struct Parsed {
    pub(super) table: Table,
    pub(super) sources: BTreeMap<String, Source>,
    /// Keys in the order of the text, for errors: the first one is the one to report.
    order: Vec<(String, bool)>,
}

impl Parsed {
    pub(super) fn new(path: Option<&Path>, text: &str) -> Result<Parsed, ConfigError> {
        let syntax = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ConfigError::Syntax { at: Source::in_text(path, line), reason: one_line(error.message()) }
        };
        let table = text.parse::<Table>().map_err(syntax)?;
        let spans = DeTable::parse(text).map_err(syntax)?;
        let mut parsed = Parsed { table, sources: BTreeMap::new(), order: Vec::new() };
        let mut at = Vec::new();
        parsed.walk(String::new(), spans.get_ref(), &mut at);
        at.sort_by_key(|(offset, ..)| *offset);
        for (offset, key, is_table) in at {
            parsed.sources.insert(key.clone(), Source::in_text(path, line_of(text, offset)));
            parsed.order.push((key, is_table));
        }
        Ok(parsed)
    }

    /// Collects (offset, dotted key, whether it is a table) of everything below `table`.
    fn walk(&self, prefix: String, table: &DeTable<'_>, at: &mut Vec<(usize, String, bool)>) {
        for (key, value) in table {
            let name =
                if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            at.push((key.span().start, name.clone(), value.get_ref().is_table()));
            match value.get_ref() {
                // Keys stand one level down; what is deeper is part of a value, and its type is judged later.
                DeValue::Table(inner) if prefix.is_empty() => self.walk(name, inner, at),
                DeValue::Array(items) if keys::is_list(&name) => self.walk_items(&name, items, at),
                _ => {}
            }
        }
    }

    fn walk_items(&self, list: &str, items: &[Spanned<DeValue<'_>>], at: &mut Vec<(usize, String, bool)>) {
        for (index, item) in items.iter().enumerate() {
            at.push((item.span().start, format!("{list}[{index}]"), item.get_ref().is_table()));
            if let DeValue::Table(inner) = item.get_ref() {
                self.walk(format!("{list}[{index}]"), inner, at);
            }
        }
    }

    /// Refuses the first key, in the order of the text, that is none of `known`, of the sections or of a pod.
    pub(super) fn check_keys(&self, known: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        for (key, is_table) in &self.order {
            let item = keys::item_keys(key);
            let of_item = key.split_once("].").filter(|_| item.is_some()).map(|(_, leaf)| leaf);
            let at = self.sources[key].clone();
            match of_item {
                Some(leaf) if item.is_some_and(|keys| keys.contains(&leaf)) => {}
                None if item.is_some() || known(key) => {}
                None if keys::is_section(key) && known_section(key, &known) => {
                    if !is_table {
                        let problem = format!("{} is not a table", shown(&self.table[key].to_string()));
                        let remedy = format!("write its keys under [{key}]");
                        return Err(ConfigError::Invalid { at, key: key.clone(), problem, remedy });
                    }
                }
                _ => return Err(ConfigError::UnknownKey { at, hint: keys::hint(key), key: one_line(key) }),
            }
        }
        Ok(())
    }
}

fn known_section(section: &str, known: &impl Fn(&str) -> bool) -> bool {
    KEYS.iter().any(|key| key.path.split_once('.').is_some_and(|(top, _)| top == section) && known(key.path))
}

/// Reads a text file; a configuration of more than a mebibyte is some other file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    const LARGEST: u64 = 1 << 20;
    let unreadable = |reason: String| ConfigError::Unreadable { path: one_line(&path.display().to_string()), reason };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LARGEST {
        return Err(unreadable(format!("it has {size} bytes, more than the {LARGEST} a configuration may have")));
    }
    // Devices and pipes have no size, and no end perhaps.
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > LARGEST {
        return Err(unreadable(format!("it has more than the {LARGEST} bytes a configuration may have")));
    }
    Ok(text)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// Whether a variable means us. Kubernetes sets `PLIMSOLL_SERVICE_HOST`, `PLIMSOLL_PORT_8001_TCP` and the like for a
/// service that is called plimsoll or begins so; those are nobody's configuration.
fn is_ours(name: &str, value: &str) -> bool {
    let link = name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_TCP")
        || name.contains("_UDP")
        || (name.ends_with("_PORT") && value.contains("://"));
    name.starts_with("PLIMSOLL_") && name != "PLIMSOLL_CONFIG" && !link
}

fn variable_hint(name: &str) -> String {
    let known: Vec<String> = KEYS.iter().flat_map(Key::variables).collect();
    match keys::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "unset it, or see plimsoll node --help".to_owned(),
    }
}

/// The parts of a list; anything else is one value.
fn split(kind: Kind, value: &str) -> Vec<String> {
    match kind {
        Kind::List | Kind::Pods => {
            value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        _ => vec![value.trim().to_owned()],
    }
}

fn parse(key: &Key, values: &[String], at: &Source) -> Result<Value, ConfigError> {
    let first = values.first().map_or("", String::as_str);
    let invalid = |problem: &str, remedy: &str| ConfigError::Invalid {
        at: at.clone(),
        key: key.path.to_owned(),
        problem: format!("{} {problem}", shown(first)),
        remedy: remedy.to_owned(),
    };
    match key.kind {
        Kind::Text => Ok(Value::String(first.to_owned())),
        Kind::Integer => {
            first.parse().map(Value::Integer).map_err(|_| invalid("is not a whole number", "write digits, as in 250"))
        }
        Kind::Flag => {
            first.parse().map(Value::Boolean).map_err(|_| invalid("is neither true nor false", "write true or false"))
        }
        Kind::Float => first.parse().map(Value::Float).map_err(|_| invalid("is not a number", "write it as in 2.5")),
        Kind::List => Ok(Value::Array(values.iter().map(|value| Value::String(value.clone())).collect())),
        Kind::Tables => Err(invalid("cannot be written here", "write it as tables in a file")),
        Kind::Pods => {
            let pod = |value: &String| {
                let remedy = "write [NAME=]URL[+http=PORT][+metrics=PORT], as in a=http://10.0.0.7:8001+http=8000";
                let wrong = || (format!("{} is no pod", shown(value)), remedy.to_owned());
                pod_table(value).map(Value::Table).ok_or_else(wrong)
            };
            let pods = values.iter().map(pod).collect::<Result<_, _>>();
            let invalid =
                |(problem, remedy)| ConfigError::Invalid { at: at.clone(), key: key.path.into(), problem, remedy };
            pods.map(Value::Array).map_err(invalid)
        }
    }
}

/// `[NAME=]URL[+http=PORT][+metrics=PORT]`; a port is one of the same host, and may be a URL of its own.
fn pod_table(value: &str) -> Option<Table> {
    let mut pod = Table::new();
    let mut parts = value.split('+');
    let first = parts.next()?;
    let (name, url) = first.split_once('=').map_or((None, first), |(name, url)| (Some(name), url));
    pod.extend(name.map(|name| ("name".to_owned(), name.into())));
    let host = url.rsplit_once(':').map_or(url, |(host, _)| host);
    for part in parts {
        let (key @ ("http" | "metrics"), at) = part.split_once('=')? else { return None };
        let at = if at.contains(':') { at.to_owned() } else { format!("{host}:{at}") };
        pod.insert(key.into(), at.into());
    }
    pod.insert("grpc".into(), url.into());
    Some(pod)
}
