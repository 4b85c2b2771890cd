//! What `regent check` prints: every key, what holds, and where it comes from.

use super::load::Loaded;

impl Loaded {
    /// One line a key: `key = value  origin`, in columns. Secrets do not stand in a config; the one
    /// that a variable holds is told as set or not set.
    #[must_use]
    pub fn render(&self) -> String {
        let cells: Vec<[String; 3]> = (self.rows.iter())
            .map(|row| {
                let value = match (&row.value, &row.note) {
                    (Some(value), Some(note)) => format!("{value}  ({note})"),
                    (Some(value), None) => value.clone(),
                    (None, Some(note)) => format!("-  ({note})"),
                    (None, None) => "-".to_owned(),
                };
                [row.path.clone(), value, row.origin.to_string()]
            })
            .collect();
        let width = |column: usize, most: usize| {
            let widths = cells.iter().map(|cells| cells[column].chars().count());
            widths.filter(|width| *width <= most).max().unwrap_or(0)
        };
        let (first, second) = (width(0, 60), width(1, 48));
        let lines = cells
            .iter()
            .map(|[path, value, origin]| format!("{path:first$}  {value:second$}  {origin}\n"));
        lines.collect()
    }
}
