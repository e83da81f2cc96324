//! What ASE's tags are worth: 0 sub-surface, 1 surface, 2 adsorbate, if they mean that.

/// Tags that mean what they say.
///
/// # Errors
/// When one is none of the three.
pub fn stated_tags(tags: &[i64]) -> Result<Vec<u8>, String> {
    let known = |t: &i64| u8::try_from(*t).ok().filter(|t| *t <= 2);
    let converted: Option<Vec<u8>> = tags.iter().map(known).collect();
    converted.ok_or_else(|| {
        let bad = tags.iter().find(|t| !(0..=2).contains(*t)).copied().unwrap_or_default();
        format!(
            "`tags`: expected 0 (sub-surface), 1 (surface) and 2 (adsorbate), found {bad}; if they mean something else, \
             leave them out with --ignore-tags"
        )
    })
}

/// Tags of anyone's structures: all 0, as ASE fills them in, says nothing and is `None`.
///
/// # Errors
/// As [`stated_tags`].
pub fn own_tags(tags: &[i64]) -> Option<Result<Vec<u8>, String>> {
    tags.iter().any(|&t| t != 0).then(|| stated_tags(tags))
}
