//! A floating table with booktabs rules.

use std::fmt::Write as _;

use super::{ColumnKind, Table};

pub(super) fn render(table: &Table) -> String {
    let alignment: String =
        table.columns.iter().map(|column| if column.kind == ColumnKind::Number { 'r' } else { 'l' }).collect();
    let mut out = format!("\\begin{{table}}\n\\centering\n\\caption{{{}}}\n", caption(table));
    let _ = write!(out, "\\label{{tab:{}}}\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n", table.name);
    let heading: Vec<String> = table.columns.iter().map(|column| escaped(&column.heading())).collect();
    let _ = write!(out, "{} \\\\\n\\midrule\n", heading.join(" & "));
    let best = table.best_rows();
    for row in 0..table.rows.len() {
        let cell = |column: usize| {
            let text = table.cell_text(row, column);
            let main = escaped(&text.main);
            let main = if best[column].contains(&row) { format!("\\textbf{{{main}}}") } else { main };
            if text.detail.is_empty() { main } else { format!("{main} {{\\scriptsize {}}}", escaped(&text.detail)) }
        };
        let cells: Vec<String> = (0..table.columns.len()).map(cell).collect();
        let _ = writeln!(out, "{} \\\\", cells.join(" & "));
    }
    out + "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
}

fn caption(table: &Table) -> String {
    let sentences = [&table.title, &table.caption].into_iter().chain(&table.notes);
    let sentences: Vec<String> =
        sentences.filter(|s| !s.is_empty()).map(|s| escaped(s.trim_end_matches('.'))).collect();
    sentences.join(". ") + "."
}

/// Without what pdflatex cannot set; words between backticks as code.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "\\textless{}",
            '>' => out += "\\textgreater{}",
            '|' => out += "\\textbar{}",
            '\n' => out.push(' '),
            '▲' => out += "$\\uparrow$",
            '▼' => out += "$\\downarrow$",
            'τ' => out += "$\\tau$",
            'ρ' => out += "$\\rho$",
            '−' => out += "$-$",
            '≠' => out += "$\\neq$",
            '`' if code => out.push('}'),
            '`' => out += "\\texttt{",
            _ => out.push(c),
        }
        code ^= c == '`';
    }
    if code { out + "}" } else { out }
}
