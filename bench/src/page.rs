// SPDX-License-Identifier: Apache-2.0
//! Pages of the documents that hold what was measured.

use std::path::Path;

use anyhow::{Context, Result};

/// What was measured stands between these lines of a page.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts a table where the last one stands in a page.
///
/// # Errors
///
/// When the page has no place for it, or cannot be written.
pub(crate) fn replace(page: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let replaced = replaced(&text, table);
    let replaced = replaced
        .with_context(|| format!("`{}` has no lines `{BEGIN}` and `{END}`", page.display()))?;
    Ok(std::fs::write(page, replaced)?)
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one_and_of_nothing_else() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replaced(&page, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert_eq!(replaced("a\nb\n", "new"), None);
    }
}
