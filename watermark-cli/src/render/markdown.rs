//! A report as Markdown (CommonMark with tables).

use super::document::{Block, Column, Document, Table};

/// The whole document.
pub(crate) fn page(document: &Document) -> String {
    let statement = &document.statement;
    let mut out = format!("# {}\n\n", line(&document.title));
    out += &format!(
        "> {}\n>\n> **{}**\n>\n",
        line(&statement.standing),
        statement.verdict
    );
    out += &format!(
        "> {}\n>\n> {}\n",
        line(&statement.claim),
        line(&statement.meaning)
    );
    if let Some(relay) = statement.relay {
        out += &format!(">\n> {}\n", line(relay));
    }
    out.push('\n');
    for (name, value) in &document.facts {
        out += &format!("- {name}: {}\n", line(value));
    }
    for section in &document.sections {
        out += &format!("\n## {}\n", section.title);
        for block in &section.blocks {
            out.push('\n');
            match block {
                Block::Text(text) => out += &format!("{}\n", line(text)),
                Block::Table(table) => out += &self::table(table),
                Block::Figure(figure) => {
                    out += &format!("*{}.* {}\n", line(&figure.title), line(&figure.description));
                }
                Block::Timeline(events) => {
                    for (at, what) in events {
                        out += &format!("1. {}: {}\n", line(at), line(what));
                    }
                }
            }
        }
    }
    out
}

fn table(table: &Table) -> String {
    let mut out = format!("{}:\n\n", line(&table.caption));
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out += &row(table.head.iter().map(|(name, _)| line(name)).collect());
    let rule = |&(_, column): &(&str, Column)| match column {
        Column::Number => "---:".to_owned(),
        Column::Text | Column::Code => "---".to_owned(),
    };
    out += &row(table.head.iter().map(rule).collect());
    for cells in &table.rows {
        out += &row(cells.iter().map(|cell| line(cell)).collect());
    }
    out
}

/// Text in one line, with nothing in it that Markdown or HTML would act on.
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(letter);
            }
            '&' => out.push_str("&amp;"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_change_the_page() {
        assert_eq!(line("a|b\n<c> *d*"), "a\\|b \\<c\\> \\*d\\*");
        let table = Table {
            caption: "t".into(),
            head: vec![("x", Column::Text), ("y", Column::Number)],
            rows: vec![vec!["a | b".into(), "1".into()]],
        };
        assert_eq!(
            self::table(&table),
            "t:\n\n| x | y |\n| --- | ---: |\n| a \\| b | 1 |\n"
        );
    }
}
