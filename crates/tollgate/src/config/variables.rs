//! `${NAME}` in the strings of a policy file, so that secrets stay out of it. The lookup is passed in; the engine reads
//! no environment.

/// The text with every `${NAME}` replaced and every `$${` turned into `${`; `None` if it holds neither.
///
/// What a variable holds is taken as it is: neither replaced again nor read as YAML.
pub(super) fn replace(
    text: &str,
    max_bytes: usize,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, VariableError> {
    if !text.contains("${") {
        return Ok(None);
    }

    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        replaced.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("$${") {
            replaced.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or(VariableError::Unclosed)?;
            if !is_name(name) {
                return Err(VariableError::Misnamed(name.to_owned()));
            }
            let value = variable(name).ok_or_else(|| VariableError::Unset(name.to_owned()))?;
            if replaced.len() + value.len() > max_bytes {
                return Err(VariableError::TooLong);
            }
            replaced.push_str(&value);
            rest = after;
        } else {
            replaced.push('$');
            rest = &rest[1..];
        }
    }
    replaced.push_str(rest);
    Ok(Some(replaced))
}

/// Why a string could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VariableError {
    Unclosed,
    Misnamed(String),
    Unset(String),
    /// A short text can name a long variable many times.
    TooLong,
}

/// As shells have it.
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Option<&str>, VariableError>) {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "NESTED" => Some("${A} $${".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        assert_eq!(replace(text, 1000, &variable), expected.map(|text| text.map(str::to_owned)), "{text}");
    }

    #[test]
    fn replaces_variables_and_nothing_else() {
        check("plain", Ok(None));
        check("costs $5, $A, {A}", Ok(None));
        check("${A}", Ok(Some("a")));
        check("x${A}y${A}z$", Ok(Some("xayaz$")));
        check("${EMPTY}", Ok(Some("")));
        check("$${A}", Ok(Some("${A}")));
        check("$$${A} ${A}", Ok(Some("$${A} a")));
    }

    #[test]
    fn never_looks_into_what_a_variable_holds() {
        check("${NESTED}", Ok(Some("${A} $${")));
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        check("${UNSET}", Err(VariableError::Unset("UNSET".into())));
        check("${A", Err(VariableError::Unclosed));
        check("${}", Err(VariableError::Misnamed(String::new())));
        check("${A:-b}", Err(VariableError::Misnamed("A:-b".into())));
        check("${1A}", Err(VariableError::Misnamed("1A".into())));
    }
}
