//! Numbers for people.

/// A whole number with thin gaps every three digits: `1 234 567`.
pub fn integer(value: u64) -> String {
    grouped(&value.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number with about `digits` significant digits, plain between 10⁻³ and 10⁷, with a power of ten outside.
pub fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-3..7).contains(&exponent) {
        return scientific(value, digits);
    }
    let decimals = (digits - 1 - exponent).max(0) as usize;
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    // Four digits are read at a glance.
    let whole = if whole.len() > 4 { grouped(whole) } else { whole.to_string() };
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// A number with a fixed count of decimals and a real minus sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { minus(&format!("{value:.decimals$}")) } else { "–".into() }
}

/// A short number for a tick: `12k`, `3.5M`, `0.02`, `1e−6`.
pub fn tick(value: f64) -> String {
    let size = value.abs();
    for (limit, factor, suffix) in [(1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")] {
        if size >= limit && size < 1e13 {
            return format!("{}{suffix}", significant(value / factor, 4));
        }
    }
    significant(value, 4)
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 {
        "< 0.1 %".into()
    } else {
        format!("{} %", significant(100.0 * share, 3))
    }
}

/// A size in bytes: `3.2 MB`.
pub fn bytes(size: u64) -> String {
    let size = size as f64;
    for (limit, unit) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if size >= limit {
            return format!("{} {unit}", significant(size / limit, 3));
        }
    }
    format!("{size} B")
}

fn scientific(value: f64, digits: i32) -> String {
    let text = format!("{value:.*e}", (digits - 1).max(0) as usize);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    minus(&format!("{mantissa}e{exponent}"))
}

/// A hyphen is too short to be read as a sign in a table.
fn minus(text: &str) -> String {
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(integer(7), "7");
        assert_eq!(integer(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(significant(0.012_345, 3), "0.0123");
        assert_eq!(significant(-13_587.222, 6), "\u{2212}13\u{202f}587.2");
        assert_eq!(significant(1.5e-7, 3), "1.5e\u{2212}7");
        assert_eq!(significant(1e-9, 3), "1e\u{2212}9");
        assert_eq!(significant(f64::NAN, 3), "–");
        assert_eq!((tick(12_000.0), tick(2.5e6), tick(0.02)), ("12k".into(), "2.5M".into(), "0.02".into()));
        assert_eq!((percent(0.5), percent(0.0001)), ("50 %".into(), "< 0.1 %".into()));
        assert_eq!((bytes(12), bytes(3_210_000)), ("12 B".into(), "3.21 MB".into()));
    }
}
