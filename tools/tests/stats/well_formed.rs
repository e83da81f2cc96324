//! A strict reader of markup: just enough of XML to find whatever is not closed, quoted or escaped.

/// The tags of a document in order, or what is wrong with it.
pub(crate) fn tags(document: &str) -> Result<Vec<String>, String> {
    let mut rest = document.trim_start().strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    let (mut open, mut all): (Vec<String>, Vec<String>) = (vec![], vec![]);
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start])?;
        let inner_start = &rest[start + 1..];
        let end = inner_start.find('>').ok_or("a tag without end")?;
        let (inner, after) = (&inner_start[..end], &inner_start[end + 1..]);
        rest = after;
        if let Some(name) = inner.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing; open: {open:?}"));
            }
            continue;
        }
        let closed = inner.strip_suffix('/');
        let tag = closed.unwrap_or(inner);
        let name = tag.split_whitespace().next().unwrap_or_default().to_string();
        check_attributes(tag[name.len()..].trim())?;
        all.push(tag.to_string());
        if closed.is_none() {
            // Style and script are plain text in HTML; ours hold neither `<` nor `&`, so XML agrees.
            open.push(name);
        }
    }
    check_text(rest)?;
    if open.is_empty() { Ok(all) } else { Err(format!("not closed: {open:?}")) }
}

fn check_text(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('&') {
        let entity: String = text[at + 1..].chars().take_while(|c| *c != ';').take(6).collect();
        if !["amp", "lt", "gt", "quot"].contains(&entity.as_str()) {
            return Err(format!("`&{entity}` is not an entity of XML"));
        }
    }
    if text.contains('>') && !text.contains("use strict") && !text.contains(":root") {
        return Err(format!("a bare > in {:?}", &text[..text.len().min(80)]));
    }
    Ok(())
}

fn check_attributes(mut text: &str) -> Result<(), String> {
    while !text.is_empty() {
        let (name, value) = text.split_once("=\"").ok_or(format!("attribute without quotes: {text}"))?;
        let (content, after) = value.split_once('"').ok_or(format!("attribute not closed: {text}"))?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("`{name}` is no attribute's name"));
        }
        check_text(content)?;
        text = after.trim_start();
    }
    Ok(())
}

#[test]
fn faults_are_found() {
    let faulty = ["<p>", "<p></b>", "<p a=b></p>", "<p a=\"b></p>", "<p>&nbsp;</p>", "<p>a > b</p>"];
    for body in faulty {
        assert!(tags(&format!("<!DOCTYPE html>{body}")).is_err(), "{body}");
    }
    assert_eq!(tags("<!DOCTYPE html><p a=\"b\"><br/>&lt;</p>").unwrap(), ["p a=\"b\"", "br"]);
}
