//! A CSV file with a fixed header, line by line.
//!
//! Read by hand: no value here needs a quote, and a quote that is never closed would swallow the rest of a file; and the
//! number of a line must be the one an editor shows, whatever empty lines come before it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{FileError, shown};

/// A file with the columns `header`, read one line at a time.
pub(crate) struct Table<R> {
    path: PathBuf,
    header: &'static [&'static str],
    from: R,
    /// The line last read, its end included.
    text: Vec<u8>,
    /// Its number, from 1.
    line: u64,
}

/// One line of a table.
pub(crate) struct Row<'a> {
    path: &'a Path,
    header: &'static [&'static str],
    line: u64,
    text: &'a [u8],
}

/// Lines read of one file: a day of 100 requests a second, and about a gigabyte of memory.
const LINES_AT_MOST: u64 = 10_000_000;

/// Bytes of one line.
const LINE_AT_MOST: usize = 4096;

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Table<BufReader<File>> {
    /// Opens `path` and reads its header.
    pub(crate) fn open(path: &Path, header: &'static [&'static str]) -> Result<Self, FileError> {
        let failed = |error: io::Error| FileError::whole(path, error, "name a file that can be read");
        Table::new(path, BufReader::new(File::open(path).map_err(failed)?), header)
    }
}

impl<R: BufRead> Table<R> {
    /// Reads the header of `from`, which is called `path`.
    pub(crate) fn new(path: &Path, from: R, header: &'static [&'static str]) -> Result<Table<R>, FileError> {
        let mut table = Table { path: path.to_owned(), header, from, text: Vec::new(), line: 0 };
        let wanted = format!("the first line is `{}`", header.join(","));
        let Some(row) = table.next()? else { return Err(FileError::whole(path, "is empty", &wanted)) };
        for (i, name) in header.iter().enumerate() {
            match row.values().nth(i) {
                Some(found) if found == name.as_bytes() => {}
                Some(found) => return Err(row.wrong(name, &format!("found the column {}", shown(found)), &wanted)),
                None => return Err(row.wrong(name, "the column is missing", &wanted)),
            }
        }
        row.no_more(&wanted)?;
        Ok(table)
    }

    /// The next line that is not blank.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, FileError> {
        loop {
            self.text.clear();
            let mut rest = self.from.by_ref().take(LINE_AT_MOST as u64 + 1);
            let read = rest.read_until(b'\n', &mut self.text);
            self.line += 1;
            let refused = |problem: String, remedy: &str| {
                let (path, remedy) = (self.path.clone(), remedy.to_owned());
                FileError { path, line: Some(self.line), field: None, problem, remedy }
            };
            match read {
                Err(error) => return Err(refused(error.to_string(), "name a file that can be read")),
                Ok(0) => return Ok(None),
                Ok(length) if length > LINE_AT_MOST => {
                    let problem = format!("is longer than {LINE_AT_MOST} bytes");
                    return Err(refused(problem, "bring a CSV file with short lines"));
                }
                Ok(_) if self.line > LINES_AT_MOST => {
                    return Err(refused(format!("is one more than {LINES_AT_MOST}"), "cut the file into parts"));
                }
                Ok(_) if self.text.trim_ascii().is_empty() => {}
                Ok(_) => break,
            }
        }
        let mark = if self.line == 1 { BYTE_ORDER_MARK } else { b"" };
        let text = self.text.strip_prefix(mark).unwrap_or(&self.text).trim_ascii();
        Ok(Some(Row { path: &self.path, header: self.header, line: self.line, text }))
    }
}

impl<'a> Row<'a> {
    fn values(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
    }

    /// The value of column `i`.
    fn get(&self, i: usize) -> Result<&'a [u8], FileError> {
        let missing = || self.wrong(self.header[i], "the value is missing", "write one for every column");
        self.values().nth(i).ok_or_else(missing)
    }

    /// The value of column `i` as text.
    pub(crate) fn text(&self, i: usize) -> Result<&'a str, FileError> {
        let value = self.get(i)?;
        std::str::from_utf8(value)
            .map_err(|_| self.wrong(self.header[i], &format!("{} is not UTF-8", shown(value)), "write UTF-8"))
    }

    /// The whole number in column `i`, at most `most`.
    pub(crate) fn whole(&self, i: usize, most: u64, remedy: &str) -> Result<u64, FileError> {
        let value = self.text(i)?;
        // `parse` would take a plus sign, and nothing that writes these files has one.
        let number = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
        match number {
            Some(number) if number <= most => Ok(number),
            Some(_) => Err(self.about(i, "is too large", remedy)),
            None => Err(self.about(i, "is not a whole number", remedy)),
        }
    }

    /// Refuses more values than there are columns.
    pub(crate) fn no_more(&self, remedy: &str) -> Result<(), FileError> {
        match self.values().nth(self.header.len()) {
            Some(more) => Err(self.error(None, format!("{} is one value too many", shown(more)), remedy)),
            None => Ok(()),
        }
    }

    /// That the value of column `i` is wrong.
    pub(crate) fn about(&self, i: usize, problem: &str, remedy: &str) -> FileError {
        let value = shown(self.values().nth(i).unwrap_or_default());
        self.wrong(self.header[i], &format!("{value} {problem}"), remedy)
    }

    fn wrong(&self, field: &'static str, problem: &str, remedy: &str) -> FileError {
        self.error(Some(field), problem.to_owned(), remedy)
    }

    fn error(&self, field: Option<&'static str>, problem: String, remedy: &str) -> FileError {
        FileError { path: self.path.to_owned(), line: Some(self.line), field, problem, remedy: remedy.to_owned() }
    }
}
