//! The words of a CIF 1.1 file.

use super::CifError;

/// One word with the line it starts on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// `data_NAME`.
    Data(&'t str),
    /// `loop_`.
    Loop,
    /// `_name`.
    Tag(&'t str),
    /// A value without its quotes; `quoted` tells a quoted `.` from an absent value.
    Value { text: &'t str, quoted: bool },
}

/// Walks over the words; comments and white space are passed over.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { text, at: 0, line: 1 }
    }

    /// The next word and its line.
    pub(super) fn next(&mut self) -> Result<Option<(Token<'t>, usize)>, CifError> {
        self.pass_space();
        let line = self.line;
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let at_line_start = self.at == 0 || self.text.as_bytes()[self.at - 1] == b'\n';
        let token = match first {
            ';' if at_line_start => self.text_field()?,
            '\'' | '"' => self.quoted(first)?,
            _ => self.word()?,
        };
        Ok(Some((token, line)))
    }

    fn advance(&mut self, bytes: usize) -> &'t str {
        let passed = &self.text[self.at..self.at + bytes];
        self.line += passed.bytes().filter(|&b| b == b'\n').count();
        self.at += bytes;
        passed
    }

    fn pass_space(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            let comment = rest[space..].starts_with('#');
            let length = if comment { rest[space..].find('\n').unwrap_or(rest.len() - space) } else { 0 };
            self.advance(space + length);
            if !comment {
                return;
            }
        }
    }

    /// From a `;` at the start of a line to the next such.
    fn text_field(&mut self) -> Result<Token<'t>, CifError> {
        let line = self.line;
        let inside = &self.text[self.at + 1..];
        let Some(end) = inside.find("\n;") else {
            return Err(CifError::new(line, "a text field that begins with `;` does not end"));
        };
        let text = inside[..end].trim_end_matches('\r');
        self.advance(1 + end + 2);
        Ok(Token::Value { text, quoted: true })
    }

    /// A quote ends a string only where white space or nothing follows.
    fn quoted(&mut self, quote: char) -> Result<Token<'t>, CifError> {
        let line = self.line;
        let inside = &self.text[self.at + 1..];
        let on_line = inside.find('\n').map_or(inside, |end| &inside[..end]);
        let closes = |(at, _): &(usize, &str)| {
            let after = on_line[at + 1..].chars().next();
            after.is_none_or(char::is_whitespace)
        };
        let Some((end, _)) = on_line.match_indices(quote).find(closes) else {
            return Err(CifError::new(
                line,
                format!("a string that begins with {quote} does not end on its line"),
            ));
        };
        let text = &on_line[..end];
        self.advance(end + 2);
        Ok(Token::Value { text, quoted: true })
    }

    fn word(&mut self) -> Result<Token<'t>, CifError> {
        let rest = &self.text[self.at..];
        let length = rest.find([' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let line = self.line;
        let word = self.advance(length);
        let lower = word.get(..5).unwrap_or(word).to_ascii_lowercase();
        if word.starts_with('_') {
            return Ok(Token::Tag(word));
        }
        match lower.as_str() {
            "data_" => Ok(Token::Data(&word[5..])),
            "loop_" if word.len() == 5 => Ok(Token::Loop),
            "save_" | "stop_" | "globa" if word.ends_with('_') || lower == "save_" => Err(CifError::new(
                line,
                format!("`{word}`: expected a CIF of data blocks, without save frames"),
            )),
            _ => Ok(Token::Value { text: word, quoted: false }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<(Token<'_>, usize)>, CifError> {
        let mut tokens = Tokens::new(text);
        let mut all = Vec::new();
        while let Some(token) = tokens.next()? {
            all.push(token);
        }
        Ok(all)
    }

    #[test]
    fn words_quotes_text_and_comments() {
        let text =
            "# generated\r\ndata_X1\n_a 'it's so' # why\nloop_\n_b\n\"x, y\" .\n;two\nlines\n;\n'.' O#2\n";
        let value = |text, quoted| Token::Value { text, quoted };
        let want = [
            (Token::Data("X1"), 2),
            (Token::Tag("_a"), 3),
            (value("it's so", true), 3),
            (Token::Loop, 4),
            (Token::Tag("_b"), 5),
            (value("x, y", true), 6),
            (value(".", false), 6),
            (value("two\nlines", true), 7),
            (value(".", true), 10),
            (value("O#2", false), 10),
        ];
        assert_eq!(tokens(text).unwrap(), want);
        assert_eq!(tokens("  # only a comment").unwrap(), []);
    }

    #[test]
    fn what_does_not_end_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            let error = tokens(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("data_x\n_a 'b\n'", "line 2: a string that begins with ' does not end");
        check("data_x\n_a\n;b\nc", "line 3: a text field");
        check("data_x\nsave_frame", "line 2: `save_frame`");
    }
}
