//! Tables for people: aligned columns without lines, so that they can be cut and searched too.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// A table being filled.
pub(crate) struct Columns {
    table: Table,
    rows: usize,
}

impl Columns {
    /// With these headings. One that begins with `>` has its column aligned to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        // Rows are never wrapped: a terminal does that, a file should not have it.
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headings.iter().map(|h| h.trim_start_matches('>')));
        for (index, heading) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                // Columns are set apart by two spaces, and the first begins at the margin.
                column.set_padding((0, 2));
                if heading.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { table, rows: 0 }
    }

    /// Adds a row. Control characters in what others wrote do not reach the terminal.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table
            .add_row(cells.into_iter().map(|cell| printable(&cell)));
        self.rows += 1;
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }
}

impl std::fmt::Display for Columns {
    /// Lines without spaces at their ends.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text from elsewhere, safe to print on one line.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let safe = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_escapes() {
        let mut columns = Columns::new(&["NAME", ">TASKS", "WHY"]);
        columns.row(["mapreduce".into(), "12".into(), String::new()]);
        columns.row(["a\x1b[2J\n".into(), "3".into(), "too little is free".into()]);
        assert_eq!(columns.len(), 2);
        expect![[r#"
            NAME       TASKS  WHY
            mapreduce     12
            a�[2J�         3  too little is free
        "#]]
        .assert_eq(&columns.to_string());
    }
}
