use super::*;

/// Gives one byte at a time, so that every value crosses a boundary.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(&mut buffer[..1])
    }
}

fn values(text: &str) -> Result<Vec<String>, JsonError> {
    let mut stream = JsonStream::new(Drip(text.as_bytes()), 0);
    let mut found = Vec::new();
    stream.begin_array()?;
    while stream.next_element(found.is_empty())? {
        let mut value = Vec::new();
        stream.take(&mut value, 100)?;
        found.push(String::from_utf8(value).unwrap());
    }
    stream.end()?;
    Ok(found)
}

#[test]
fn values_are_cut_where_they_end() {
    let got = values(" [1, -2.5e-3 ,\"a \\\" ]\", {\"b\" : [ true, null ]},[] ] \n").unwrap();
    assert_eq!(got, ["1", "-2.5e-3", "\"a \\\" ]\"", "{\"b\":[true,null]}", "[]"]);
    assert_eq!(values("[]").unwrap(), [""; 0]);
    let got = values("[NaN, [-Infinity, Infinity]]").unwrap();
    assert_eq!(got, ["\"NaN\"", "[\"-Infinity\",\"Infinity\"]"]);
}

#[test]
fn keys_come_in_their_order() {
    let text = b"{\"a\": 1, \"b\\n\": {\"c\": 2}, \"d\": [3]}";
    let mut stream = JsonStream::new(&text[..], 0);
    stream.begin_object().unwrap();
    let mut keys = Vec::new();
    while let Some(key) = stream.next_key(keys.is_empty()).unwrap() {
        stream.skip().unwrap();
        keys.push((key, stream.position()));
    }
    stream.end().unwrap();
    assert_eq!(keys, [("a".to_owned(), 7), ("b\n".to_owned(), 24), ("d".to_owned(), 34)]);
}

#[test]
fn what_is_wrong_is_told_with_its_byte() {
    let check = |text: &str, expected: &str| {
        let error = values(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("{}", "byte 0: expected an array `[`, found `{`");
    check("[1 2]", "byte 3: expected `,` or `]`, found `2`");
    check("[1,", "byte 3: the text ends, expected a value; the file is truncated");
    check("[\"abc", "expected `\"` at the end of a string");
    check("[[1}]", "byte 3: expected `,` or a closing bracket, found `}`");
    check("[[1 2]]", "byte 4: expected `,` or a closing bracket, found `2`");
    check("[1,]", "byte 3: expected a value, found `]`");
    check("[1] x", "byte 4: expected the end of the text, found `x`");
    check("[\u{0}]", "found `\\u{0}`");
    check(&format!("[{}", "[".repeat(100)), "byte 65: more than 64 brackets within each other");
    check(&format!("[\"{}", "x".repeat(200)), "a value of more than 100 bytes");
}

type Lattice = std::collections::BTreeMap<String, std::collections::BTreeMap<String, [[f64; 2]; 1]>>;

#[test]
fn the_key_at_fault_is_told() {
    let text = br#"{"lattice":{"matrix":[[1.0,"NaN"]]}}"#;
    let error = serde_json::from_slice::<Lattice>(text).unwrap_err();
    assert_eq!(describe(text, &error), "`matrix`: invalid type: string \"NaN\", expected f64");
    let error = serde_json::from_slice::<Lattice>(b"[]").unwrap_err();
    assert_eq!(describe(b"[]", &error), "invalid type: sequence, expected a map");
}
