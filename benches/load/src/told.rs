//! What became of a recording, as others read it.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use plimsoll_files::TraceArrival;

use super::Ended;

/// What became of every arrival.
pub struct Played {
    pub(crate) arrivals: Arc<[TraceArrival]>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) gave_up: bool,
}

impl Played {
    /// A line of JSON with the counts.
    pub fn summary(&self) -> String {
        let answered = self.ended.iter().filter(|one| one.answer.is_ok()).count();
        format!(
            r#"{{"arrivals":{},"answered":{answered},"failed":{},"unanswered":{},"gave_up":{}}}"#,
            self.arrivals.len(),
            self.ended.len() - answered,
            self.arrivals.len() - self.ended.len(),
            self.gave_up,
        )
    }

    /// Writes a line for each request that ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        writeln!(file, "at_us,node,bytes,service_us,target,late_us,latency_us,error")?;
        for one in &self.ended {
            let TraceArrival { at, node, bytes, service, .. } = &self.arrivals[one.index];
            let (latency, error) = match &one.answer {
                Ok(latency) => (latency.as_micros().to_string(), String::new()),
                Err(error) => (String::new(), format!("\"{}\"", error.replace('"', "'").replace('\n', " "))),
            };
            let (target, late) = (one.target, one.late.as_micros());
            writeln!(
                file,
                "{},{node},{bytes},{},{target},{late},{latency},{error}",
                at.as_micros(),
                service.as_micros()
            )?;
        }
        file.flush()
    }
}
