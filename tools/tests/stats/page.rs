//! The page itself: well-formed, self-contained, and saying what the numbers say.

use crate::well_formed::tags;
use crate::{made_up, report};

#[test]
fn the_page_is_well_formed_and_complete_in_itself() {
    let home = tempfile::tempdir().unwrap();
    let (_, page) = report(home.path(), &[]);
    let tags = tags(&page).unwrap();
    let count = |name: &str| tags.iter().filter(|t| t.split(' ').next() == Some(name)).count();
    assert_eq!(
        (count("script"), count("style"), count("img"), count("link"), count("iframe")),
        (1, 1, 0, 0, 0)
    );
    for tag in &tags {
        assert!(!tag.contains(" src="), "{tag}");
        if let Some((_, link)) = tag.split_once("href=\"") {
            assert!(link.starts_with('#'), "{tag}");
        }
    }
    for outside in ["http://", "https://", "url(", "@import", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Every link within the page leads somewhere.
    let ids: Vec<&str> = tags.iter().filter_map(|t| t.split_once("id=\"")?.1.split('"').next()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), ids.len(), "ids are unique");
    for link in tags.iter().filter_map(|t| t.split_once("href=\"#")?.1.split('"').next()) {
        assert!(ids.contains(&link), "#{link}");
    }
}

#[test]
fn the_page_says_what_the_numbers_say() {
    let home = tempfile::tempdir().unwrap();
    let (json, page) = report(home.path(), &[]);
    let edges = &json["datasets"][0]["counts"][0];
    for expected in [
        "made-up &lt;1&gt;".to_string(),
        "arithmetic &amp; noise".into(),
        format!("data-value=\"{}\"", edges["mean"].as_f64().unwrap()),
        "2 structures were rejected at conversion".into(),
        "energy is not finite".into(),
        "energy per atom / eV".into(),
        "force norm / (eV/Å)".into(),
        // The run: 0.25 eV, 0.125 eV/Å.
        "<b>250</b>".into(),
        "<b>125</b>".into(),
        "force MAE / (meV/Å)".into(),
        "structures per second".into(),
    ] {
        assert!(page.contains(&expected), "{expected}");
    }
    let content = page.split("<script>").next().unwrap();
    assert!(!content.contains("NaN") && !content.contains("inf\""));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    let first = report(home.path(), &[]);
    assert_eq!(first, report(home.path(), &["--quiet"]));
}

#[test]
fn runs_alone_make_a_report() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("metrics.jsonl"), made_up::METRICS).unwrap();
    let output = home.path().join("runs.html");
    let arguments = ["--run".as_ref(), home.path().as_os_str(), "--output".as_ref(), output.as_os_str()];
    let done = crate::stats(&arguments);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(tags(&std::fs::read_to_string(output).unwrap()).is_ok());
}
