//! A CSV file with a fixed header, line by line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{FileError, shown};

/// A file with the columns `header`, read one line at a time.
pub(super) struct Table<R> {
    path: std::path::PathBuf,
    header: &'static [&'static str],
    rows: csv::Reader<Lines<R>>,
    /// Reused from line to line.
    record: csv::ByteRecord,
    count: usize,
}

/// One line of a table.
pub(super) struct Row<'a> {
    path: &'a Path,
    header: &'static [&'static str],
    line: u64,
    record: &'a csv::ByteRecord,
}

/// Rows read of one file: a day of 100 requests a second, and about a gigabyte of memory.
const ROWS_AT_MOST: usize = 10_000_000;

/// Bytes of one line.
const LINE_AT_MOST: usize = 4096;

impl Table<File> {
    /// Opens `path` and reads its header.
    pub(super) fn open(path: &Path, header: &'static [&'static str]) -> Result<Table<File>, FileError> {
        let failed = |error: io::Error| FileError::whole(path, error, "name a file that can be read");
        Table::new(path, File::open(path).map_err(failed)?, header)
    }
}

impl<R: Read> Table<R> {
    /// Reads the header of `from`, which is called `path`.
    pub(super) fn new(path: &Path, from: R, header: &'static [&'static str]) -> Result<Table<R>, FileError> {
        // No quotes: no value here needs one, and a quote that is never closed would swallow the rest of the file.
        let rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .quoting(false)
            .trim(csv::Trim::All)
            .from_reader(Lines { from, length: 0 });
        let mut table = Table { path: path.to_owned(), header, rows, record: csv::ByteRecord::new(), count: 0 };
        let wanted = format!("the first line is `{}`", header.join(","));
        let Some(row) = table.next()? else { return Err(FileError::whole(path, "is empty", &wanted)) };
        for (i, name) in header.iter().enumerate() {
            match row.record.get(i) {
                Some(found) if found == name.as_bytes() => {}
                Some(found) => return Err(row.wrong(name, &format!("found the column {}", shown(found)), &wanted)),
                None => return Err(row.wrong(name, "the column is missing", &wanted)),
            }
        }
        row.no_more(&wanted)?;
        table.count = 0;
        Ok(table)
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, FileError> {
        let read = self.rows.read_byte_record(&mut self.record).map_err(|error| {
            let line = error.position().map_or(self.rows.position().line(), csv::Position::line);
            let problem = match error.into_kind() {
                csv::ErrorKind::Io(error) => error.to_string(),
                other => format!("{other:?}"),
            };
            let remedy = "bring a CSV file with short lines".to_owned();
            FileError { path: self.path.clone(), line: Some(line), field: None, problem, remedy }
        })?;
        if !read {
            return Ok(None);
        }
        self.count += 1;
        let line = self.record.position().map_or(0, csv::Position::line);
        let row = Row { path: &self.path, header: self.header, line, record: &self.record };
        if self.count > ROWS_AT_MOST {
            let remedy = "cut the file into parts";
            return Err(row.error(None, format!("more than {ROWS_AT_MOST} rows"), remedy));
        }
        Ok(Some(row))
    }
}

impl<'a> Row<'a> {
    /// The value of column `i`.
    pub(super) fn get(&self, i: usize) -> Result<&'a [u8], FileError> {
        let missing = || self.wrong(self.header[i], "the value is missing", "write one for every column");
        self.record.get(i).ok_or_else(missing)
    }

    /// The value of column `i` as text.
    pub(super) fn text(&self, i: usize) -> Result<&'a str, FileError> {
        let value = self.get(i)?;
        std::str::from_utf8(value)
            .map_err(|_| self.wrong(self.header[i], &format!("{} is not UTF-8", shown(value)), "write UTF-8"))
    }

    /// The whole number in column `i`, at most `most`.
    pub(super) fn whole(&self, i: usize, most: u64, remedy: &str) -> Result<u64, FileError> {
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
    pub(super) fn no_more(&self, remedy: &str) -> Result<(), FileError> {
        match self.record.get(self.header.len()) {
            Some(more) => Err(self.error(None, format!("{} is one value too many", shown(more)), remedy)),
            None => Ok(()),
        }
    }

    /// That the value of column `i` is wrong.
    pub(super) fn about(&self, i: usize, problem: &str, remedy: &str) -> FileError {
        let value = shown(self.record.get(i).unwrap_or_default());
        self.wrong(self.header[i], &format!("{value} {problem}"), remedy)
    }

    fn wrong(&self, field: &'static str, problem: &str, remedy: &str) -> FileError {
        self.error(Some(field), problem.to_owned(), remedy)
    }

    fn error(&self, field: Option<&'static str>, problem: String, remedy: &str) -> FileError {
        FileError { path: self.path.to_owned(), line: Some(self.line), field, problem, remedy: remedy.to_owned() }
    }
}

/// Passes on what it reads, as long as it has line ends.
struct Lines<R> {
    from: R,
    /// Bytes since the last line end.
    length: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // In pieces of a line, so that no more than two lines are ever held.
        let most = buf.len().min(LINE_AT_MOST);
        let read = self.from.read(&mut buf[..most])?;
        let mut lines = buf[..read].split(|byte| matches!(byte, b'\n' | b'\r'));
        let first = lines.next().map_or(0, <[u8]>::len);
        let longest = lines.clone().map(<[u8]>::len).fold(self.length + first, usize::max);
        if longest > LINE_AT_MOST {
            return Err(io::Error::other(format!("a line of more than {LINE_AT_MOST} bytes")));
        }
        self.length = lines.next_back().map_or(self.length + first, <[u8]>::len);
        Ok(read)
    }
}
