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
        table.columns.extend(own.columns.iter().cloned());
        table.caption.clone_from(&own.caption);
    }
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
        cells.extend(row);
        table.push(cells);
    }
    Ok(())
}
