//! Lists of `key=value` fields, separated by commas: one record of CSV, as Docker's options have it (RFC 4180).
//!
//! A field that begins with `"` ends with one, and has `""` for each that it holds.

/// The fields of `text`.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field;
        (field, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("expected `,` behind a quoted field, found `{rest}`")),
        }
    }
}

/// As [`split`], each field as a key in lower case and a value.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    split(text)?.iter().map(|field| pair(field)).collect()
}

/// A field as a key in lower case and a value.
pub(super) fn pair(field: &str) -> Result<(String, String), String> {
    match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(format!("expected fields such as `key=value`, found `{field}`")),
    }
}

/// Up to the closing quote, and what is behind it.
fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('"') {
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, behind)),
        }
    }
    Err(format!("`\"{text}` has no closing quote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_protect_commas() {
        for (text, expected) in [
            ("a=1,b=2", &["a=1", "b=2"][..]),
            ("a", &["a"]),
            ("", &[""]),
            ("a,", &["a", ""]),
            (r#""a=1,2",b"#, &["a=1,2", "b"]),
            (r#"a,"b=""x""","#, &["a", r#"b="x""#, ""]),
            (r#"a="b"#, &[r#"a="b"#]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for text in [r#""a"#, r#""a"b"#, r#"x,"a"""#] {
            assert!(split(text).is_err(), "{text}");
        }
        assert_eq!(pairs("ID=A,src=b=c").unwrap(), [("id".into(), "A".into()), ("src".into(), "b=c".into())]);
        assert!(pairs("id").is_err());
    }
}
