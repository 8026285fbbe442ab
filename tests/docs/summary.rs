//! docs/SUMMARY.md, by which mdBook makes the site.

use std::collections::BTreeSet;
use std::fs;

use crate::links::links_of;
use crate::pages::{pages, top};

#[test]
fn the_site_has_every_page_once_and_no_other() {
    let text = fs::read_to_string(top().join("docs/SUMMARY.md")).expect("the list");
    let listed: Vec<_> =
        links_of(&text).into_iter().map(|link| format!("docs/{}", link.target)).collect();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), once.len(), "a page is there twice");
    let there =
        pages().into_iter().filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md");
    assert_eq!(once, there.collect(), "docs/SUMMARY.md (left) and the folder (right) differ");
}

#[test]
fn the_page_about_directives_has_all_of_them() {
    let text = fs::read_to_string(top().join("docs/directives.md")).expect("the page");
    let linked = links_of(&text).into_iter().map(|link| format!("docs/{}", link.target));
    let linked: BTreeSet<_> = linked.filter(|page| page.starts_with("docs/directives/")).collect();
    let there = pages().into_iter().filter(|page| page.starts_with("docs/directives/"));
    assert_eq!(linked, there.collect(), "docs/directives.md (left) and the folder (right) differ");
}

#[test]
fn a_directive_has_the_same_default_and_place_in_the_list_as_on_its_page() {
    let list = fs::read_to_string(top().join("docs/directives.md")).expect("the page");
    for line in list.lines().filter(|line| line.contains("](directives/WSGI")) {
        let link = links_of(line).remove(0);
        let page = fs::read_to_string(top().join("docs").join(&link.target)).expect("its page");
        let head = |what: &str| {
            let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
            row.expect("a page has a head").trim_end_matches(" |").to_owned()
        };
        let wanted = format!(") | {} | {} |", head("Default"), head("Context"));
        assert!(line.ends_with(&wanted), "{line}\nshould end with {wanted}");
    }
}
