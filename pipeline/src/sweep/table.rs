//! One table of all runs: the swept values before each run's own rows.

use evaluator::table::{Cell, Column, Table};

use super::config::one_line;
use super::jobs::Job;
use super::run::JobEnd;
use crate::write_whole::read_json;

/// The rows of table `name` of all runs that are done; what is missing is told in the notes.
///
/// # Errors
/// A run's table that cannot be read.
pub fn combined(sweep: &str, name: &str, jobs: &[Job], ends: &[JobEnd]) -> anyhow::Result<Table> {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in jobs.iter().flat_map(|job| &job.values) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let mut table = Table::new(name, &format!("{sweep}: {name} of all runs"), Vec::new());
    for (job, end) in jobs.iter().zip(ends) {
        match end {
            JobEnd::Done => add(&mut table, name, job, &keys)?,
            JobEnd::Failed { code, .. } => {
                let how = code.map_or("by a signal".to_owned(), |code| format!("with code {code}"));
                table.notes.push(format!("{} failed {how}: {}", job.name, job.log.display()));
            }
            JobEnd::Stopped => table.notes.push(format!("{} was not finished", job.name)),
        }
    }
    Ok(table)
}

fn add(table: &mut Table, name: &str, job: &Job, keys: &[&str]) -> anyhow::Result<()> {
    let path = job.folder.tables().join(format!("{name}.json"));
    if !path.exists() {
        table.notes.push(format!("{} has no table `{name}`", job.name));
        return Ok(());
    }
    let own: Table = read_json(&path)?;
    if table.columns.is_empty() {
        table.columns.push(Column::text("run", "Run"));
        table.columns.extend(keys.iter().map(|key| Column::text(key, key.rsplit('.').next().unwrap_or(key))));
        table.caption.clone_from(&own.caption);
    }
    let before = 1 + keys.len();
    let places = places(table, before, &own.columns);
    for note in own.notes {
        if !table.notes.contains(&note) {
            table.notes.push(note);
        }
    }
    for row in own.rows {
        let swept = |key: &&str| {
            let value = job.values.iter().find(|(own, _)| own == key);
            value.map_or(Cell::Empty, |(_, value)| Cell::text(one_line(value)))
        };
        let mut cells = vec![Cell::text(&job.name)];
        cells.extend(keys.iter().map(swept));
        cells.resize(table.columns.len(), Cell::Empty);
        places.iter().zip(row).for_each(|(place, cell)| cells[*place] = cell);
        table.push(cells);
    }
    Ok(())
}

/// Where a run's columns stand, the first `before` being the sweep's own. A column that no run before had (measures may be what is swept) comes
/// behind the others, and is empty in earlier rows.
fn places(table: &mut Table, before: usize, own: &[Column]) -> Vec<usize> {
    let mut places = Vec::new();
    for column in own {
        let known = table.columns[before..].iter().position(|other| other.key == column.key);
        places.push(known.map_or(table.columns.len(), |place| before + place));
        if known.is_none() {
            table.columns.push(column.clone());
            table.rows.iter_mut().for_each(|row| row.push(Cell::Empty));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_told_apart_by_their_keys() {
        let number = |key: &str| Column::number(key, key, 4, None);
        let mut table = Table::new("results", "t", vec![Column::text("run", "Run"), Column::text("seed", "seed")]);
        assert_eq!(places(&mut table, 2, &[number("ndcg"), number("seconds")]), [2, 3]);
        table.push(vec![Cell::text("a"), Cell::text("1"), Cell::number(0.5), Cell::number(2.0)]);
        assert_eq!(places(&mut table, 2, &[number("map"), number("ndcg"), number("seconds")]), [4, 2, 3]);
        assert_eq!(table.rows[0].len(), 5);
        assert!(matches!(table.rows[0][4], Cell::Empty));
    }
}
