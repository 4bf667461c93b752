//! The experiments as the archive has them: per experiment a folder with a number, and in it one
//! table for each kind of measurement, named after what was injected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;

/// Longest table read.
const MAX_TABLE: u64 = 4 << 20;
const DAY: i64 = 24 * 3600;
/// A table's last row stands for this many seconds after the injection began: an experiment is 120 s
/// without, 120 s with and 120 s without injection, and starting and ending it takes three more.
const END: i64 = 243;

/// Tables beside that of the calls, and the column of each: those that are there from the first row
/// on. A column that begins later (`403`, `500`) is written from the first row on all the same, so
/// that its values stand at other times than they were measured.
const OUTSIDE: [(&str, &str); 6] = [
    ("latency", "hello_world"),
    ("nethttp", "200"),
    ("cpu", "hello_world"),
    ("mem", "container_memory_usage_bytes"),
    ("netrec", "hello_world"),
    ("netsend", "hello_world"),
];
pub(crate) const OUTSIDE_NAMES: [&str; OUTSIDE.len()] = [
    "http_latency",
    "http_answers",
    "cpu",
    "memory",
    "received",
    "sent",
];
/// Columns of calls that begin late, see [`OUTSIDE`].
const LATE: [&str; 2] = ["gettid", "shutdown"];

/// What was injected into one experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) call: String,
    pub(crate) delay_us: u64,
    pub(crate) error: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("`{0}` is no label `call:delay_enter=MICROSECONDS:error=ERRNO`")]
    Label(String),
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: &'static str },
    #[error("no column `{0}`")]
    Column(&'static str),
    #[error("no table of {0}")]
    Table(&'static str),
}

impl Label {
    /// True when nginx makes the call and the injector knows it by this name. It makes no `read`,
    /// `readv`, `poll` or `select` here, and x86-64 has no `sendfile64`.
    pub(crate) fn has_effect(&self) -> bool {
        matches!(self.call.as_str(), "open" | "write" | "writev" | "sendfile")
    }
}

impl FromStr for Label {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let wrong = || ReadError::Label(text.to_owned());
        let mut parts = text.split(':');
        let call = parts.next().filter(|call| !call.is_empty());
        let mut label = Label {
            call: call.ok_or_else(wrong)?.to_owned(),
            delay_us: 0,
            error: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("delay_enter", us)) => label.delay_us = us.parse().map_err(|_| wrong())?,
                Some(("error", error)) => label.error = Some(error.to_owned()),
                _ => return Err(wrong()),
            }
        }
        if label.delay_us == 0 && label.error.is_none() {
            return Err(wrong());
        }
        Ok(label)
    }
}

/// One experiment.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) label: Label,
    /// Tracepoints of the calls; `rates` of a row are in this order.
    pub(crate) calls: Vec<String>,
    /// In order of time.
    pub(crate) rows: Vec<Row>,
}

/// Rates over the minute that ends with it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Seconds since the injection began, to within three; negative before.
    pub(crate) at: i64,
    /// Calls a second.
    pub(crate) rates: Vec<f64>,
    /// In the order of [`OUTSIDE_NAMES`]; NaN where a table has no such row.
    pub(crate) outside: [f64; OUTSIDE.len()],
}

/// The experiments by number.
pub(crate) fn read(archive: &Path) -> anyhow::Result<Vec<Run>> {
    let name = || archive.display().to_string();
    let file = File::open(archive).with_context(name)?;
    let mut archive = zip::ZipArchive::new(file).with_context(name)?;
    let mut folders: BTreeMap<u32, (String, BTreeMap<String, Table>)> = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let name = entry.name().to_owned();
        let Some((number, label, kind)) = place(&name) else {
            continue;
        };
        let mut text = String::new();
        entry.take(MAX_TABLE).read_to_string(&mut text)?;
        let table = text.parse::<Table>().with_context(|| name.clone())?;
        let folder = folders.entry(number).or_default();
        folder.0 = label.to_owned();
        folder.1.insert(kind.to_owned(), table);
    }
    let run = |(number, (label, tables)): (u32, (String, BTreeMap<_, _>))| {
        Run::new(label.parse()?, &tables).with_context(|| format!("experiment {number}"))
    };
    folders.into_iter().map(run).collect()
}

/// Number, label and kind of a table by its path: `…/3/open:error=EACCES_cpu.csv`.
fn place(path: &str) -> Option<(u32, &str, &str)> {
    let (folders, file) = path.strip_suffix(".csv")?.rsplit_once('/')?;
    let number = folders.rsplit('/').next()?.parse().ok()?;
    let (label, kind) = file.rsplit_once('_')?;
    Some((number, label, kind))
}

impl Run {
    fn new(label: Label, tables: &BTreeMap<String, Table>) -> Result<Self, ReadError> {
        let calls = tables.get("syscall").ok_or(ReadError::Table("syscall"))?;
        let mut outside = Vec::new();
        for (kind, column) in OUTSIDE {
            let table = tables.get(kind).ok_or(ReadError::Table(kind))?;
            outside.push(table.column(column)?);
        }
        let kept: Vec<usize> = (0..calls.columns.len())
            .filter(|&index| !LATE.contains(&calls.columns[index].as_str()))
            .collect();
        let last = calls.rows.iter().map(|row| row.0).max().unwrap_or(0);
        let rows = calls.rows.iter().map(|(time, values)| Row {
            at: time - last + END,
            rates: kept.iter().map(|&index| values[index]).collect(),
            outside: std::array::from_fn(|index| {
                outside[index].get(time).copied().unwrap_or(f64::NAN)
            }),
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.sort_by_key(|row| row.at);
        Ok(Run {
            label,
            calls: kept
                .iter()
                .map(|&index| calls.columns[index].clone())
                .collect(),
            rows,
        })
    }
}

/// Rows of equal length by their time, in seconds of the day of the first.
#[derive(Debug, PartialEq)]
struct Table {
    columns: Vec<String>,
    rows: Vec<(i64, Vec<f64>)>,
}

impl Table {
    fn column(&self, name: &'static str) -> Result<BTreeMap<i64, f64>, ReadError> {
        let index = self.columns.iter().position(|column| column == name);
        let index = index.ok_or(ReadError::Column(name))?;
        Ok(self.rows.iter().map(|row| (row.0, row.1[index])).collect())
    }
}

impl FromStr for Table {
    type Err = ReadError;

    /// Comma-separated, the first column `YYYY-MM-DD hh:mm:ss`, the newest row first.
    fn from_str(text: &str) -> Result<Self, ReadError> {
        let mut lines = text.lines();
        let heading = lines.next().unwrap_or("").split(',').skip(1);
        let columns: Vec<String> = heading.map(str::to_owned).collect();
        let mut rows: Vec<(i64, Vec<f64>)> = Vec::new();
        for (index, line) in lines.enumerate() {
            let wrong = |reason| ReadError::Line {
                line: index + 2,
                reason,
            };
            let (time, values) = line.split_once(',').ok_or(wrong("no values"))?;
            let mut time = second_of_day(time).ok_or(wrong("no time"))?;
            if rows.first().is_some_and(|(newest, _)| time > *newest) {
                time -= DAY;
            }
            let values: Result<Vec<f64>, _> = values.split(',').map(str::parse).collect();
            let values = values.map_err(|_| wrong("a value that is no number"))?;
            if values.len() != columns.len() {
                return Err(wrong("not as many values as columns"));
            }
            rows.push((time, values));
        }
        Ok(Table { columns, rows })
    }
}

fn second_of_day(time: &str) -> Option<i64> {
    let mut parts = time.split_once(' ')?.1.split(':').map(str::parse::<i64>);
    let mut next = || parts.next()?.ok();
    Some(next()? * 3600 + next()? * 60 + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_call_delay_and_error() {
        let label = |call: &str, delay_us, error: Option<&str>| Label {
            call: call.to_owned(),
            delay_us,
            error: error.map(str::to_owned),
        };
        let both = "open:delay_enter=5000000:error=EACCES".parse();
        assert_eq!(both, Ok(label("open", 5_000_000, Some("EACCES"))));
        let delayed = "writev:delay_enter=1000000".parse();
        assert_eq!(delayed, Ok(label("writev", 1_000_000, None)));
        let failed = "read:error=EIO".parse();
        assert_eq!(failed, Ok(label("read", 0, Some("EIO"))));
        for wrong in [
            "",
            "open",
            ":error=EIO",
            "open:delay_enter=x",
            "open:when=1",
        ] {
            let error = wrong.parse::<Label>().unwrap_err();
            assert_eq!(error, ReadError::Label(wrong.to_owned()));
        }
    }

    #[test]
    fn a_path_says_which_table_it_is() {
        let path = "exp/83/readv:delay_enter=1000:error=EIO_cpu.csv";
        let expected = (83, "readv:delay_enter=1000:error=EIO", "cpu");
        assert_eq!(place(path), Some(expected));
        assert_eq!(place("exp/readme.txt"), None);
        assert_eq!(place("exp/x/open:error=EIO_cpu.csv"), None);
    }

    #[test]
    fn a_table_may_pass_midnight() {
        let text = "timestamp,a,b\n2019-05-07 00:00:01,1,2.5\n2019-05-06 23:59:58,3,4\n";
        let table: Table = text.parse().unwrap();
        assert_eq!(table.rows, [(1, vec![1.0, 2.5]), (-2, vec![3.0, 4.0])]);
        assert_eq!(table.column("b").unwrap()[&-2], 4.0);
        assert_eq!(table.column("c"), Err(ReadError::Column("c")));
    }

    #[test]
    fn a_broken_table_is_refused_with_its_line() {
        for (row, reason) in [
            ("x", "no values"),
            ("2019-05-06 1,1", "no time"),
            ("2019-05-06 00:00:01,y", "a value that is no number"),
            ("2019-05-06 00:00:01,1,2", "not as many values as columns"),
        ] {
            let text = format!("timestamp,a\n2019-05-06 00:00:04,1\n{row}\n");
            let error = text.parse::<Table>().unwrap_err();
            assert_eq!(error, ReadError::Line { line: 3, reason });
        }
    }

    #[test]
    fn late_columns_are_not_read() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let mut tables: BTreeMap<String, Table> = OUTSIDE
            .map(|(kind, column)| {
                let text = format!("timestamp,{column}\n2019-05-06 00:00:04,7\n");
                (kind.to_owned(), table(&text))
            })
            .into();
        let calls = "timestamp,close,gettid,open\n\
                     2019-05-06 00:00:04,1,2,3\n2019-05-06 00:00:01,4,5,6\n";
        tables.insert("syscall".to_owned(), table(calls));
        let label: Label = "open:error=EIO".parse().unwrap();
        let run = Run::new(label, &tables).unwrap();
        assert_eq!(run.calls, ["close", "open"]);
        assert_eq!((run.rows[0].at, run.rows[1].at), (END - 3, END));
        assert_eq!(run.rows[1].rates, [1.0, 3.0]);
        assert_eq!(run.rows[1].outside, [7.0; OUTSIDE.len()]);
        assert!(run.rows[0].outside[0].is_nan());
    }
}
