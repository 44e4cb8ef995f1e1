//! `${NAME}` and `${NAME:-default}` in the file's strings.

use serde_yaml::Value;

use super::key_path::KeyPath;
use super::problem::Problem;

/// Replaces variables in every string of `value`; `lookup` reads one variable. `$${` stands for a literal `${`.
pub fn interpolate(value: &mut Value, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(value, &KeyPath::default(), lookup, &mut problems);
    problems
}

fn walk(value: &mut Value, path: &KeyPath, lookup: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<Problem>) {
    match value {
        Value::String(text) if text.contains("${") => match expand(text, lookup) {
            Ok(expanded) => *text = expanded,
            Err(message) => problems.push(Problem {
                path: path.clone(),
                message,
                hint: Some("export it, or give a default: `${NAME:-default}`".to_owned()),
            }),
        },
        Value::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &path.index(index), lookup, problems);
            }
        }
        Value::Mapping(map) => {
            for (key, item) in map.iter_mut() {
                if let Some(key) = key.as_str() {
                    walk(item, &path.key(key), lookup, problems);
                }
            }
        }
        _ => {}
    }
}

fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or_else(|| format!("`{text}`: a `${{` without its `}}`"))?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        match (lookup(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(format!("the variable `{name}` is not set")),
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HERE").then(|| "/data".to_owned())
    }

    #[test]
    fn variables_defaults_and_escapes() {
        assert_eq!(expand("${HERE}/a", &lookup), Ok("/data/a".into()));
        assert_eq!(expand("x${GONE:-../b}/${HERE}", &lookup), Ok("x../b//data".into()));
        assert_eq!(expand("$${HERE}", &lookup), Ok("${HERE}".into()));
        assert!(expand("${GONE}", &lookup).is_err_and(|e| e.contains("`GONE` is not set")));
        assert!(expand("${HERE", &lookup).is_err());
    }

    #[test]
    fn problems_name_the_key() {
        let mut value: Value = serde_yaml::from_str("a: [x, '${GONE}']").unwrap();
        let problems = interpolate(&mut value, &lookup);
        assert_eq!(problems[0].path.to_string(), "a[1]");
    }
}
