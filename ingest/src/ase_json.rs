//! JSON as ASE writes it: with arrays in a form of its own and with bare `NaN` and `Infinity`.

use serde_json::Value as Json;

/// Reads a JSON text.
///
/// # Errors
/// When it is none, or nests deeper than 128 levels.
pub fn parse(text: &[u8]) -> Result<Json, String> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        Err(error) => {
            let quoted = quote_tokens(text).ok_or_else(|| format!("no JSON: {error}"))?;
            serde_json::from_slice(&quoted).map_err(|e| format!("no JSON: {e}"))
        }
    }
}

/// Python's names of what JSON has no number for, put in quotes; `None` if there are none.
fn quote_tokens(text: &[u8]) -> Option<Vec<u8>> {
    const TOKENS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let (mut out, mut at, mut found) = (Vec::with_capacity(text.len() + 64), 0, false);
    let (mut inside, mut escaped) = (false, false);
    while at < text.len() {
        let byte = text[at];
        let token = TOKENS.iter().find(|t| !inside && text[at..].starts_with(t));
        if let Some(token) = token {
            out.push(b'"');
            out.extend_from_slice(token);
            out.push(b'"');
            at += token.len();
            found = true;
            continue;
        }
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            inside = byte == b'"';
        }
        out.push(byte);
        at += 1;
    }
    found.then_some(out)
}

/// All numbers of a value, in order: of a number, a truth value, nested lists, or `{"__ndarray__": [shape, type, values]}`.
/// `None` if there is something else in it.
pub fn numbers(value: &Json) -> Option<Vec<f64>> {
    let mut out = Vec::new();
    collect(array_part(value)?, &mut out)?;
    Some(out)
}

/// One number.
pub fn number(value: &Json) -> Option<f64> {
    match numbers(value)?.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

fn array_part(value: &Json) -> Option<&Json> {
    match value {
        Json::Object(object) => match object.get("__ndarray__")?.as_array()?.as_slice() {
            [_, dtype, values] if dtype.as_str().is_some_and(|d| !d.starts_with("complex")) => Some(values),
            _ => None,
        },
        other => Some(other),
    }
}

fn collect(value: &Json, out: &mut Vec<f64>) -> Option<()> {
    match value {
        Json::Number(number) => out.push(number.as_f64()?),
        Json::Bool(flag) => out.push(f64::from(u8::from(*flag))),
        Json::Array(items) => items.iter().try_for_each(|item| collect(item, out))?,
        Json::String(token) => out.push(match token.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return None,
        }),
        _ => return None,
    }
    Some(())
}

/// A value's beginning, for messages.
pub fn shown(value: &Json) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_in_their_forms() {
        let check = |text: &str, want: Option<Vec<f64>>| {
            assert_eq!(numbers(&parse(text.as_bytes()).unwrap()), want, "{text}");
        };
        check(
            r#"{"__ndarray__": [[2, 2], "float64", [1.5, 2, -3, 4e-3]]}"#,
            Some(vec![1.5, 2.0, -3.0, 0.004]),
        );
        check(r#"{"__ndarray__": [[2], "bool", [true, false]]}"#, Some(vec![1.0, 0.0]));
        check("[[1, 2], [3, 4]]", Some(vec![1.0, 2.0, 3.0, 4.0]));
        check("0.1", Some(vec![0.1]));
        check(r#"{"__ndarray__": [[1], "complex128", [1, 0]]}"#, None);
        check(r#"["a"]"#, None);
        check("null", None);
    }

    #[test]
    fn tokens_that_are_no_json() {
        let value = parse(br#"{"a": NaN, "b": [-Infinity, Infinity], "NaN \" NaN": "NaN"}"#).unwrap();
        assert!(number(&value["a"]).unwrap().is_nan());
        assert_eq!(numbers(&value["b"]), Some(vec![f64::NEG_INFINITY, f64::INFINITY]));
        assert_eq!(value["NaN \" NaN"], "NaN");
        assert!(parse(b"{").unwrap_err().starts_with("no JSON"));
        assert!(parse(&b"[".repeat(100_000)).is_err());
    }
}
