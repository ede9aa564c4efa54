//! A trace on its way to a file.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plimsoll_sim::World;
use plimsoll_sim::trace::listener_to;

/// Records that go to a file as lines of JSON, where one was named.
pub(crate) struct Recorder {
    path: Option<PathBuf>,
    failed: Rc<RefCell<Option<io::Error>>>,
}

impl Recorder {
    /// Writes what happens in `world` to `path` from now on.
    pub(crate) fn start(world: &mut World, path: Option<&Path>) -> Result<Recorder, Box<dyn Error>> {
        let failed = Rc::default();
        if let Some(path) = path {
            let file = File::create(path).map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
            world.trace.listen(listener_to(BufWriter::new(file), Rc::clone(&failed)));
        }
        Ok(Recorder { path: path.map(Path::to_owned), failed })
    }

    /// Closes the file; says so if not all of it could be written.
    pub(crate) fn finish(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        let Some(path) = self.path else { return Ok(()) };
        // What is still buffered is written when the listener goes.
        world.trace.mute();
        match self.failed.take() {
            None => Ok(()),
            Some(error) => Err(format!("cannot write `{}`: {error}", path.display()).into()),
        }
    }
}
