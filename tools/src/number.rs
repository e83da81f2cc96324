//! Numbers for people.

/// A whole number with thin gaps every three digits: `1 234 567`. Four digits are read at a glance.
pub fn integer(value: u64) -> String {
    grouped(&value.to_string())
}

fn grouped(digits: &str) -> String {
    if digits.len() <= 4 {
        return digits.into();
    }
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number with about `digits` significant digits, plain between 10⁻³ and 10⁷, with a power of ten outside; without the
/// zeros at its end.
pub fn significant(value: f64, digits: i32) -> String {
    let text = rounded(value, digits);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// As [`significant`], with the zeros at its end: in a column they tell how far a number was rounded.
pub fn rounded(value: f64, digits: i32) -> String {
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
    fixed(value, (digits - 1 - exponent).max(0) as usize)
}

/// A number with a fixed count of decimals, thin gaps and a real minus sign; what rounds to zero has no sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let sign =
        if value < 0.0 && text.contains(|c: char| c.is_ascii_digit() && c != '0') { MINUS } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", grouped(whole))
}

/// A mean and its standard deviation, three digits of the latter and as many decimals of the mean.
pub fn with_spread(mean: f64, std: f64) -> (String, String) {
    if !(std.is_finite() && std >= 1e-8 && mean.abs() < 1e9) {
        return (significant(mean, 6), significant(std, 3));
    }
    let decimals = (2 - std.log10().floor() as i32).max(0) as usize;
    (fixed(mean, decimals), fixed(std, decimals))
}

/// Suffixes of large numbers on ticks: from which size on, and what they stand for.
const SUFFIXES: [(f64, f64, &str); 3] = [(1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
/// Beyond it a power of ten is told.
const TOO_LARGE: f64 = 1e13;

/// A short number for a tick: `12k`, `3.5M`, `0.02`, `1e−6`.
pub fn tick(value: f64) -> String {
    let size = value.abs();
    let suffix = SUFFIXES.iter().find(|(limit, ..)| size >= *limit && size < TOO_LARGE);
    suffix.map_or_else(
        || significant(value, 4),
        |(_, factor, suffix)| format!("{}{suffix}", significant(value / factor, 4)),
    )
}

/// Labels of ticks `step` apart: all with as many decimals as tell them apart, and all with the suffix that the largest has.
pub fn ticks(values: &[f64], step: f64) -> Vec<String> {
    let most = values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    if !(1e-4..TOO_LARGE).contains(&step) || most >= TOO_LARGE {
        let digits = if step > 0.0 { (most / step).max(1.0).log10().ceil() as i32 + 1 } else { 4 };
        return values.iter().map(|v| significant(*v, digits)).collect();
    }
    let (factor, suffix) = SUFFIXES
        .iter()
        // `20.05M` is no shorter than the number itself.
        .find(|(limit, factor, _)| most >= *limit && step / factor >= 0.01)
        .map_or((1.0, ""), |(_, factor, suffix)| (*factor, *suffix));
    // A step of 0.05 needs two decimals, one of 0.1 needs one, one of 5 none.
    let decimals = (-(step / factor).log10() - 1e-9).ceil().max(0.0) as usize;
    let label = |v: &f64| if *v == 0.0 { "0".into() } else { fixed(v / factor, decimals) + suffix };
    values.iter().map(label).collect()
}

/// A share as a percentage with one decimal; what is not nothing and not all is not shown as such.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p == 0.0 || p == 100.0 => format!("{p} %"),
        p if p > 0.0 && p < 0.1 => "< 0.1 %".into(),
        p if (99.95..100.0).contains(&p) => "> 99.9 %".into(),
        p => format!("{} %", fixed(p, 1)),
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
const MINUS: &str = "\u{2212}";

fn minus(text: &str) -> String {
    text.replace('-', MINUS)
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
        assert_eq!((percent(0.5), percent(0.0001)), ("50.0 %".into(), "< 0.1 %".into()));
        assert_eq!(
            (percent(0.0), percent(1.0), percent(0.9999)),
            ("0 %".into(), "100 %".into(), "> 99.9 %".into())
        );
        assert_eq!(
            (rounded(61.0, 3), rounded(0.25, 4), significant(61.0, 3)),
            ("61.0".into(), "0.2500".into(), "61".into())
        );
        assert_eq!((fixed(-0.001, 2), fixed(-1234.5, 1)), ("0.00".into(), "\u{2212}1234.5".into()));
        assert_eq!((bytes(12), bytes(3_210_000)), ("12 B".into(), "3.21 MB".into()));
    }

    #[test]
    fn ticks_tell_their_values_apart() {
        let minus = |texts: [&str; 3]| texts.map(|t| t.replace('-', MINUS));
        assert_eq!(ticks(&[-467.8, -467.75, -467.7], 0.05), minus(["-467.80", "-467.75", "-467.70"]));
        assert_eq!(ticks(&[-4210.0, -4209.5, -4209.0], 0.5), minus(["-4210.0", "-4209.5", "-4209.0"]));
        assert_eq!(ticks(&[0.0, 0.1, 0.2], 0.1), ["0", "0.1", "0.2"]);
        assert_eq!(ticks(&[0.0, 5_000.0, 10_000.0], 5_000.0), ["0", "5k", "10k"]);
        assert_eq!(ticks(&[0.0, 500.0, 1000.0], 500.0), ["0", "500", "1000"]);
        assert_eq!(ticks(&[0.0, 2e-6, 4e-6], 2e-6), minus(["0", "2e-6", "4e-6"]));
        assert_eq!(ticks(&[20_000_000.0, 20_000_100.0], 100.0), ["20\u{202f}000.0k", "20\u{202f}000.1k"]);
    }

    #[test]
    fn a_mean_has_the_digits_of_its_spread() {
        assert_eq!(with_spread(-4209.627, 0.1791), ("\u{2212}4209.627".into(), "0.179".into()));
        assert_eq!(with_spread(-2.5e-11, 1.19), ("0.00".into(), "1.19".into()));
        assert_eq!(with_spread(3.0, 0.0), ("3".into(), "0".into()));
    }
}
