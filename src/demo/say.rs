//! What the demo says: line by line, so that it is read while things happen.

use std::io::Write;

/// A writer that ends and flushes each line. A reader who left is no reason to stop.
#[derive(Debug)]
pub(super) struct Say<W>(W);

impl<W: Write> Say<W> {
    pub(super) fn new(out: W) -> Say<W> {
        Say(out)
    }

    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
        let _ = self.0.flush();
    }

    /// Several lines, as they stand.
    pub(super) fn block(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }
}
