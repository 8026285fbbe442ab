//! What differs from mod_wsgi: the tables of `docs/compatibility.md`, read from the page itself, so that page and
//! command say the same.
#![forbid(unsafe_code)]

/// The page that the project's other tests hold to its code.
const PAGE: &str = include_str!("../../docs/compatibility.md");

/// A row that is not *same*: what it is about, the state, and the remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    pub(crate) state: &'static str,
    pub(crate) remark: &'static str,
}

/// A table of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Directives,
    Options,
    Environ,
    Modules,
}

impl Table {
    fn title(self) -> &'static str {
        match self {
            Self::Directives => "Directives",
            Self::Options => "Options of directives",
            Self::Environ => "Keys of the environ",
            Self::Modules => "Attributes of the Python modules",
        }
    }

    /// The column with the state.
    fn state(self) -> usize {
        match self {
            Self::Environ => 3,
            Self::Directives | Self::Options | Self::Modules => 1,
        }
    }

    /// Every row, whatever its state.
    pub(crate) fn rows(self) -> impl Iterator<Item = Difference> {
        let heading = format!("\n## {}\n", self.title());
        let text = PAGE.split_once(heading.as_str()).map_or("", |(_, text)| text);
        let text = text.split("\n## ").next().unwrap_or_default();
        let state = self.state();
        text.lines().filter(|line| line.starts_with("| ")).skip(1).filter_map(move |line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells.first()?.trim_matches(['`', '<', '>']);
            Some(Difference { name, state: cells.get(state)?, remark: cells.get(state + 1)? })
        })
    }

    /// What a row says, also where that is "as `another=`".
    fn resolved(self, row: Difference) -> Difference {
        let Some(other) = row.remark.strip_prefix("as ").map(|name| name.trim_matches('`')) else {
            return row;
        };
        let directive = row.name.split(' ').next().unwrap_or_default();
        let mut rows = self.rows();
        let same = rows.find(|row| row.name == other || row.name == format!("{directive} {other}"));
        Difference { remark: same.map_or(row.remark, |same| same.remark), ..row }
    }

    /// The rows that a site has to know of.
    pub(crate) fn differences(self) -> impl Iterator<Item = Difference> {
        let tells = |row: &Difference| {
            ["differs", "not yet"].contains(&row.state)
                || row.remark.starts_with("of an old version")
        };
        self.rows().filter(tells).map(move |row| self.resolved(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_page_is_found_and_has_its_columns_where_they_are_expected() {
        for (table, least) in [
            (Table::Directives, 50),
            (Table::Options, 40),
            (Table::Environ, 40),
            (Table::Modules, 20),
        ] {
            let rows: Vec<_> = table.rows().collect();
            assert!(rows.len() >= least, "{table:?} has {} rows", rows.len());
            for row in rows {
                assert!(["same", "better", "differs", "not yet"].contains(&row.state), "{row:?}");
            }
        }
        assert!(Table::Directives.differences().any(|row| row.name == "WSGIPassApacheRequest"));
        assert!(Table::Directives.rows().any(|row| row.name == "WSGIInterpreterOptions"));
        for table in [Table::Directives, Table::Options] {
            let mut bare = table.differences().filter(|row| row.remark.starts_with("as "));
            assert_eq!(bare.next(), None, "a remark that is about another row is that row's");
        }
    }
}
