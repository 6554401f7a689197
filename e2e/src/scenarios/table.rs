//! A table of what was expected and what was seen.

use anyhow::bail;

/// Collects rows, prints each as it comes, and fails at the end if one differed.
#[derive(Debug, Default)]
pub struct Table {
    rows: usize,
    differences: Vec<String>,
}

impl Table {
    /// Prints the head.
    pub fn start(title: &str) -> Self {
        println!("  {title}");
        println!("  {:<6} {:<66} {:<9} {:<9}", "step", "what", "expected", "seen");
        Self::default()
    }

    /// One row; equal texts are as expected.
    pub fn row(&mut self, step: &str, what: &str, expected: &str, seen: &str) {
        let mark = if expected == seen { "" } else { "  <-- differs" };
        println!("  {step:<6} {what:<66} {expected:<9} {seen:<9}{mark}");
        self.rows += 1;
        if expected != seen {
            self.differences.push(format!("{step} {what}: expected {expected}, seen {seen}"));
        }
    }

    /// The end: an error that names every row that differed.
    pub fn finish(self) -> anyhow::Result<()> {
        println!("  {} of {} as expected", self.rows - self.differences.len(), self.rows);
        if self.rows == 0 {
            bail!("nothing was tried");
        }
        if !self.differences.is_empty() {
            bail!("{} differ: {}", self.differences.len(), self.differences.join("; "));
        }
        Ok(())
    }
}
