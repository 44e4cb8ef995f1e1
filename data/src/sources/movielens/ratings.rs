//! MovieLens' files: RecBole's tab-separated ones with a header, or the `::`-separated ones of MovieLens-1M.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

use crate::report::SetReport;
use crate::sources::Sink;
use crate::sources::catalogue::{Catalogue, id_order};
use crate::sources::tsv::{Column, Rows, for_each_record};
use crate::{DataError, files};

/// A user's ratings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct User {
    pub(super) id: String,
    /// Oldest first, equal times by item id; no film twice.
    pub(super) ratings: Vec<Rating>,
}

/// One rating; how many stars it gives does not matter here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rating {
    /// Place in the catalogue.
    pub(super) item: usize,
    time: f64,
    /// Line it stands on.
    pub(super) line: u64,
}

/// Reads the films.
pub(super) fn read_films(path: &Path, sink: &mut Sink<'_>) -> Result<Catalogue, DataError> {
    if !is_dat(path)? {
        return Catalogue::read(path, sink);
    }
    let mut catalogue = Catalogue::default();
    // The title of a `movies.dat` has the year in it; genres follow.
    for_each_dat_row(path, &mut sink.report, |line, [id, name, _genres], report| {
        match catalogue.add(id, name, path, line)? {
            None => Ok(()),
            Some(problem) => report.malformed_row(path, line, problem),
        }
    })?;
    Ok(catalogue)
}

/// Reads the ratings, users in the order of their ids.
pub(super) fn read_users(path: &Path, catalogue: &Catalogue, report: &mut SetReport) -> Result<Vec<User>, DataError> {
    let mut users: HashMap<String, Vec<Rating>> = HashMap::new();
    let mut add = |line: u64, user: &str, item: &str, time: &str, report: &mut SetReport| {
        let Some(time) = time.parse::<f64>().ok().filter(|time| time.is_finite()) else {
            return report.malformed_row(path, line, format!("timestamp `{time}` is no number"));
        };
        if user.is_empty() {
            return report.malformed_row(path, line, "a rating without a user");
        }
        match catalogue.place(item) {
            Some(item) => users.entry(user.to_owned()).or_default().push(Rating { item, time, line }),
            None => report.note("ratings of films that the items do not hold", 1),
        }
        Ok(())
    };
    if is_dat(path)? {
        for_each_dat_row(path, report, |line, [user, item, _stars, time], report| add(line, user, item, time, report))?;
    } else {
        let columns = [&["user_id"], &["item_id"], &["timestamp"]].map(|names| Column::required(names));
        let each = |line, [user, item, time]: [&str; 3], report: &mut SetReport| add(line, user, item, time, report);
        for_each_record(path, Rows::Side, columns, report, each)?;
    }
    let mut users: Vec<User> =
        users.into_iter().map(|(id, ratings)| in_order(id, ratings, catalogue, report)).collect();
    users.sort_by(|a, b| id_order(&a.id).cmp(&id_order(&b.id)));
    Ok(users)
}

/// Ratings by time; of two for one film, the first counts.
fn in_order(id: String, mut ratings: Vec<Rating>, catalogue: &Catalogue, report: &mut SetReport) -> User {
    let key = |rating: &Rating| id_order(&catalogue.items[rating.item].id);
    ratings.sort_by(|a, b| a.time.total_cmp(&b.time).then_with(|| key(a).cmp(&key(b))));
    let all = ratings.len();
    let mut seen = HashSet::new();
    ratings.retain(|rating| seen.insert(rating.item));
    report.note("second ratings of a film by a user", (all - ratings.len()) as u64);
    User { id, ratings }
}

/// True for `::`-separated files: no tab in the first line, and the separator is.
fn is_dat(path: &Path) -> Result<bool, DataError> {
    let mut first = Vec::new();
    files::open(path)?.read_until(b'\n', &mut first).map_err(DataError::io(path))?;
    Ok(!first.contains(&b'\t') && first.windows(2).any(|pair| pair == b"::"))
}

/// Rows of a `.dat` file, which has no header. Texts that are not UTF-8 are Latin-1, as in MovieLens-1M.
fn for_each_dat_row<const N: usize>(
    path: &Path,
    report: &mut SetReport,
    mut each: impl FnMut(u64, [&str; N], &mut SetReport) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let content = files::read_bytes(path)?;
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = match std::str::from_utf8(line) {
            Ok(text) => text.to_owned(),
            Err(_) => line.iter().map(|byte| char::from(*byte)).collect(),
        };
        let number = number as u64 + 1;
        let fields: Vec<&str> = line.trim().split("::").collect();
        match <[&str; N]>::try_from(fields) {
            Ok(fields) => each(number, fields, report)?,
            Err(_) if line.trim().is_empty() => {}
            Err(fields) => {
                let message = format!("{} fields between `::`, wanted {N}", fields.len());
                report.malformed_row(path, number, message)?;
            }
        }
    }
    Ok(())
}
