use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use super::table::Table;
use super::*;

const TRACE: &[&str] = &["at_us", "node", "model", "bytes", "service_us"];

fn trace(text: impl AsRef<[u8]>) -> Result<Trace, FileError> {
    Trace::of(Table::new(Path::new("day.csv"), text.as_ref(), TRACE)?)
}

fn histogram(text: impl AsRef<[u8]>) -> Result<Histogram, FileError> {
    let path = Path::new("ms.csv");
    Histogram::of(Table::new(path, text.as_ref(), &["le_ms", "count"])?, path)
}

const fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// A recording is written by one program and read by another: nothing may change on the way, and a spreadsheet's
/// habits (a byte order mark, CRLF, blanks, empty lines, no last line end) are no reason to refuse one.
#[test]
fn a_recording_reads_as_it_was_written() {
    let plain = "at_us,node,model,bytes,service_us\n0,0,,100,5000\n7,3,resnet,5000,120000\n";
    let arrival = |at, node, model: &str, bytes, service| TraceArrival {
        at: micros(at),
        node,
        model: model.to_owned(),
        bytes,
        service: micros(service),
    };
    let read = trace(plain).unwrap();
    assert_eq!(read.arrivals, [arrival(0, 0, "model", 100, 5000), arrival(7, 3, "resnet", 5000, 120_000)]);
    assert_eq!(read.nodes(), 4);

    let of_a_spreadsheet =
        "\u{feff}at_us, node ,model,bytes,service_us\r\n\r\n0,0,,100, 5000\r\n7,3,resnet,5000,120000";
    assert_eq!(trace(of_a_spreadsheet).unwrap(), read);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    read.write(&path).unwrap();
    assert_eq!(Trace::read(&path).unwrap(), read);
    // What would come back as something else is not written at all.
    for name in ["", "a,b", " a", "a\n", "\"a\""] {
        let error = Trace { arrivals: vec![arrival(0, 0, name, 1, 1)] }.write(&path).unwrap_err().to_string();
        assert!(error.contains("is not the name of a model"), "{error}");
    }
    assert_eq!(Trace::read(&path).unwrap(), read);
}

/// Somebody with a hundred thousand lines needs to be told which one, and what to write there.
#[test]
fn a_malformed_recording_is_told_by_line_and_field() {
    let header = "at_us,node,model,bytes,service_us\n";
    let cases = [
        ("", "day.csv: is empty: the first line is `at_us,node,model,bytes,service_us`"),
        ("at_us,node,model,bytes\n", "day.csv line 1, service_us: the column is missing"),
        ("at_ms,node,model,bytes,service_us\n", "day.csv line 1, at_us: found the column `at_ms`"),
        ("at_us,node,model,bytes,service_us,x\n", "day.csv line 1: `x` is one value too many"),
        ("1,0,,1,1\n0,0,,1,1\n", "line 3, at_us: `0` is before the line above (1 us): sort the lines by at_us"),
        ("1,0,,1,1\n\n\n-1,0,,1,1\n", "line 5, at_us: `-1` is not a whole number: write microseconds"),
        ("1,0,,1,1\r\n\r\n1.5,0,,1,1\r\n", "line 4, at_us: `1.5` is not a whole number"),
        ("0,0,,1,NaN\n", "line 2, service_us: `NaN` is not a whole number: write the microseconds it ran"),
        ("0,+1,,1,1\n", "line 2, node: `+1` is not a whole number"),
        ("0,10000,,1,1\n", "line 2, node: `10000` is too large: number the nodes from 0 to 9999"),
        ("0,0,,18446744073709551616,1\n", "line 2, bytes: `18446744073709551616` is not a whole number"),
        ("0,0,,1,86400000001\n", "line 2, service_us: `86400000001` is too large"),
        ("2678400000001,0,,1,1\n", "line 2, at_us: `2678400000001` is too large"),
        ("0,0,,1\n", "line 2, service_us: the value is missing: write one for every column"),
        ("0,0,,,1\n", "line 2, bytes: `` is not a whole number"),
        ("0,0,a,b,1,1\n", "line 2, bytes: `b` is not a whole number"),
        ("0,0,a,1,1,\n", "line 2: `` is one value too many"),
        (
            "0,0,\"a\",1,1\n",
            "line 2, model: `\\\"a\\\"` is not the name of a model: write at most 256 bytes without quotes",
        ),
    ];
    for (lines, says) in cases {
        let text =
            if lines.is_empty() || lines.starts_with("at_") { lines.to_owned() } else { header.to_owned() + lines };
        let error = trace(&text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
        assert!(error.starts_with("day.csv") && !error.contains('\n'), "{error}");
    }
    let not_utf8 = [header.as_bytes(), b"0,0,\xff,1,1\n"].concat();
    assert!(trace(not_utf8).unwrap_err().to_string().contains("line 2, model: `\u{fffd}` is not UTF-8"));
    let missing = Trace::read(Path::new("/nonexistent/day.csv")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/day.csv: ") && missing.ends_with("name a file that can be read"));
}

/// A disk image given by mistake has no line end for gigabytes; reading must stop at the first long line.
#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            buf.fill(b'7');
            self.0 += buf.len() as u64;
            assert!(self.0 < 1 << 20, "read on and on");
            Ok(buf.len())
        }
    }
    let error = Table::new(Path::new("disk.img"), BufReader::new(Endless(0)), TRACE).err().unwrap().to_string();
    assert!(error.contains("disk.img line 1: is longer than 4096 bytes: bring a CSV file"), "{error}");
    let long = format!("at_us,node,model,bytes,service_us\n0,0,,1,1\n0,0,{},1,1\n", "m".repeat(5000));
    let error = trace(long).unwrap_err().to_string();
    assert!(error.contains("line 3: is longer than 4096 bytes"), "{error}");
    let fits = format!("at_us,node,model,bytes,service_us\n{}", "0,0,resnet,1,1\n".repeat(2000));
    assert_eq!(trace(fits).unwrap().arrivals.len(), 2000);
}

/// Whatever is in a file, reading it returns: a panic would be the reader's fault, not the file's. 20,000 files of
/// characters that matter, and damaged copies of a good one.
#[test]
fn no_file_makes_a_reader_panic() {
    // A linear congruential generator: any will do, as long as it repeats.
    let mut state = 1_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let alphabet = b"0123456789,,,\n\n\r.-+eE\"'aN \t\0\xff\xc3\xa9_usm";
    let good = b"at_us,node,model,bytes,service_us\n0,0,,100,5000\n7,3,resnet,5000,120000\n";
    let bins = b"le_ms,count\n5,10\n10,20\n+Inf,20\n";
    let mut accepted = 0;
    for _ in 0..10_000 {
        let mut damaged = [&good[..], &bins[..]][below(2)].to_vec();
        for _ in 0..=below(3) {
            let at = below(damaged.len());
            damaged[at] = alphabet[below(alphabet.len())];
        }
        let mut noise = b"le_ms,count\n".to_vec();
        for _ in 0..below(60) {
            noise.push(alphabet[below(alphabet.len())]);
        }
        for text in [&damaged, &noise] {
            accepted += usize::from(trace(text).is_ok()) + usize::from(histogram(text).is_ok());
        }
    }
    // Some damage is harmless (another digit); if all or none got through, this test would test nothing.
    assert!((500..15_000).contains(&accepted), "{accepted}");
}

/// Prometheus' own form is what people have: cumulative, +Inf last, fractions where a rate was taken.
#[test]
fn a_histogram_reads_as_prometheus_has_it() {
    let read = histogram("le_ms,count\n0.5,0\n5,10.5\n10,10.5\n120,20\n+Inf,20\n").unwrap();
    let bins: Vec<_> = read.bins.iter().map(|bin| (bin.le.as_micros(), bin.upto)).collect();
    assert_eq!(bins, [(500, 0.0), (5000, 10.5), (10_000, 10.5), (120_000, 20.0)]);
}

/// Counts that are not cumulative, the likeliest mistake, would else be a distribution that nobody measured.
#[test]
fn a_malformed_histogram_is_told_by_line_and_field() {
    let cases = [
        ("", "ms.csv: counts no request: add lines with a count above 0"),
        ("5,0\n10,0\n", "ms.csv: counts no request"),
        ("+Inf,0\n", "ms.csv: counts no request"),
        ("5,10\n10,3\n", "ms.csv line 3, count: `3` is less than in the line before: counts are cumulative"),
        ("5,10\n5,20\n", "ms.csv line 3, le_ms: `5` is not above the line before: sort the lines"),
        ("0,10\n", "ms.csv line 2, le_ms: `0` is not a bound: write milliseconds, from 0.001"),
        ("-5,10\n", "ms.csv line 2, le_ms: `-5` is not a bound"),
        ("NaN,10\n", "ms.csv line 2, le_ms: `NaN` is not a bound"),
        ("inf,10\n", "ms.csv line 2, le_ms: `inf` is not a bound"),
        ("1e99,10\n", "ms.csv line 2, le_ms: `1e99` is not a bound"),
        ("5,-1\n", "ms.csv line 2, count: `-1` is not a count: write a number from 0 to 2^53"),
        ("5,nan\n", "ms.csv line 2, count: `nan` is not a count"),
        ("5,inf\n", "ms.csv line 2, count: `inf` is not a count"),
        ("5\n", "ms.csv line 2, count: the value is missing"),
        ("5,1,2\n", "ms.csv line 2: `2` is one value too many"),
        ("5,10\n+Inf,11\n", "ms.csv line 3, count: `11` counts requests above every bound: add a line"),
        ("+Inf,11\n", "ms.csv line 2, count: `11` counts requests above every bound"),
        ("5,10\n+Inf,10\n7,10\n", "ms.csv line 4, le_ms: `7` comes after +Inf"),
    ];
    for (lines, says) in cases {
        let error = histogram(format!("le_ms,count\n{lines}")).unwrap_err().to_string();
        assert!(error.contains(says), "{lines:?}: {error}");
    }
}
