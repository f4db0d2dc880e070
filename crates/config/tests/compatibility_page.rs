//! docs/compatibility.md lists the directives of Redis that nothing looks at, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use config::{directives, Flags};

#[test]
fn the_page_lists_what_has_no_effect() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (_, section) = page
        .split_once("\n### Without effect\n")
        .expect("the page has the section");
    let (_, list) = section.split_once("\n- ").expect("the section has a list");
    let (list, _) = list.split_once("\n\n").expect("something follows the list");
    let mut listed = BTreeSet::new();
    for name in list.split('`').skip(1).step_by(2) {
        assert!(listed.insert(name), "{name} is listed twice");
    }
    let expected: BTreeSet<&str> = directives()
        .iter()
        .filter(|row| row.is_accepted_only() && !row.flags.contains(Flags::HIDDEN))
        .map(|row| row.name)
        .collect();
    assert_eq!(listed, expected);
}
