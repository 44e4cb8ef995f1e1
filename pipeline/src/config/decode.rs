//! From a YAML value to a typed one, with every fault named by its key.

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::key_path::{KeyPath, Segment};
use super::problem::{Problem, suggestion};

/// A file with more faults than this is not a near miss.
const MAX_PROBLEMS: usize = 30;

/// Reads `value` as `T`. After a fault the offending key is taken out and the rest is read again, so that one run names
/// all of them.
///
/// # Errors
/// All faults found.
pub fn decode<T: DeserializeOwned>(mut value: Value) -> Result<T, Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    loop {
        let problem = match decode_once(&value) {
            Ok(decoded) if problems.is_empty() => return Ok(decoded),
            Ok(_) => return Err(problems),
            Err(problem) if spell_out(&problem, &mut value) => continue,
            Err(problem) => problem,
        };
        let caused_by_removal = problems.iter().any(|earlier| earlier.path == problem.path);
        if caused_by_removal {
            return Err(problems);
        }
        let removed = problem.path.remove_from(&mut value).is_some();
        problems.push(problem);
        if !removed || problems.len() >= MAX_PROBLEMS {
            return Err(problems);
        }
    }
}

/// A bare word where a kind has settings means its defaults: `jacobi` becomes `jacobi: {}`. True when there was one.
fn spell_out(problem: &Problem, value: &mut Value) -> bool {
    let wants_settings = problem.message.starts_with("got unit variant, wanted");
    let Some(place) = problem.path.get_mut(value).filter(|place| wants_settings && place.is_string()) else {
        return false;
    };
    let kind = std::mem::take(place);
    *place = Value::Mapping([(kind, Value::Mapping(serde_yaml::Mapping::new()))].into_iter().collect());
    true
}

fn decode_once<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
    serde_yaml::with::singleton_map_recursive::deserialize(tracked).map_err(|error| {
        let path = key_path(&track.path());
        in_words(&path, &error.to_string())
    })
}

fn key_path(path: &serde_path_to_error::Path) -> KeyPath {
    use serde_path_to_error::Segment as Step;
    let mut segments = Vec::new();
    for step in path {
        match step {
            Step::Seq { index } => segments.push(Segment::Index(*index)),
            Step::Map { key } => segments.push(Segment::Key(key.clone())),
            // The one-key map that selects a variant is a map in the file; a unit variant is the value itself.
            Step::Enum { .. } | Step::Unknown => {}
        }
    }
    KeyPath(segments)
}

/// serde's wording, turned into "got, wanted" with a suggestion.
fn in_words(path: &KeyPath, message: &str) -> Problem {
    let message = message.strip_prefix(&format!("{path}: ")).unwrap_or(message);
    let at = |path: KeyPath, message: String, hint: Option<String>| Problem { path, message, hint };
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let names = quoted(rest);
        let (got, known) = names.split_first().map_or(("", &[][..]), |(got, known)| (*got, known));
        let hint = suggestion(got, known);
        // The tracked path ends with the key already when the reader had begun on it.
        let ends_with_it = path.0.last() == Some(&Segment::Key(got.to_owned()));
        let path = if ends_with_it { path.clone() } else { path.key(got) };
        return at(path, "unknown key".to_owned(), Some(hint));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let names = quoted(rest);
        let (got, known) = names.split_first().map_or(("", &[][..]), |(got, known)| (*got, known));
        let hint = suggestion(got, known);
        let wanted = list(known);
        // Of a one-key map, the map is what is wrong.
        let of_map = path.0.last() == Some(&Segment::Key(got.to_owned()));
        let path = path.parent().filter(|_| of_map).unwrap_or_else(|| path.clone());
        return at(path, format!("got `{got}`, wanted {wanted}"), Some(hint));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let name = quoted(rest).first().copied().unwrap_or_default().to_owned();
        return at(path.key(&name), "missing, and it has no default".to_owned(), None);
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((got, wanted)) = message.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected ")) {
            return at(path.clone(), format!("got {}, wanted {}", got_in_words(got), wanted_in_words(wanted)), None);
        }
    }
    at(path.clone(), message.to_owned(), None)
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        1 => names[0].clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

fn got_in_words(got: &str) -> String {
    match got {
        "unit value" => "nothing".to_owned(),
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        other => ["string ", "integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| other.strip_prefix(kind))
            .map_or_else(|| other.to_owned(), |value| value.replace('`', "")),
    }
}

fn wanted_in_words(wanted: &str) -> String {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" | "path string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => match other.strip_prefix("struct ").or_else(|| other.strip_prefix("enum ")) {
            Some(name) => format!("a map of keys ({name})"),
            None => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Stage {
        learning_rate: f64,
        steps: u64,
        objective: Objective,
    }

    impl Default for Stage {
        fn default() -> Self {
            Self { learning_rate: 1.0, steps: 1, objective: Objective::RankZephyr {} }
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Objective {
        RankZephyr {},
        First { lambda: f64 },
        Plain,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct File {
        stages: Vec<Stage>,
    }

    fn problems(text: &str) -> Vec<String> {
        decode::<File>(serde_yaml::from_str(text).unwrap())
            .unwrap_err()
            .into_iter()
            .map(|p| format!("{}: {} ({})", p.path, p.message, p.hint.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn one_key_maps_and_bare_words_select_variants_and_1e_5_is_a_number() {
        let text = "stages: [{learning_rate: 1e-5, objective: {first: {lambda: 10}}}, {objective: plain}]";
        let file: File = decode(serde_yaml::from_str(text).unwrap()).unwrap();
        assert_eq!(file.stages[0].learning_rate, 1e-5);
        assert_eq!(file.stages[0].objective, Objective::First { lambda: 10.0 });
        assert_eq!(file.stages[1].objective, Objective::Plain);
    }

    #[test]
    fn a_bare_word_means_the_default_settings_of_its_kind() {
        let file: File = decode(serde_yaml::from_str("stages: [{}, {objective: rank_zephyr}]").unwrap()).unwrap();
        assert_eq!(file.stages[1].objective, Objective::RankZephyr {});
        assert_eq!(
            problems("stages: [{}, {steps: fast, objective: first}]"),
            [
                "stages[1].steps: got \"fast\", wanted a whole number, 0 or more ()",
                "stages[1].objective.first.lambda: missing, and it has no default ()",
            ]
        );
        let text = "{decoders: [autoregressive, jacobi, one_pass], sets: [a], models: [b]}";
        let config: evaluator::evaluate::EvaluateConfig = decode(serde_yaml::from_str(text).unwrap()).unwrap();
        let names: Vec<String> = config.decoders.iter().map(|kind| kind.name()).collect();
        assert_eq!(names, ["autoregressive", "jacobi", "one_pass"]);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "stages: [{lerning_rate: 1, steps: fast, objective: {first: {lamda: 1}}}]";
        assert_eq!(
            problems(text),
            [
                "stages[0].lerning_rate: unknown key (did you mean `learning_rate`?)",
                "stages[0].steps: got \"fast\", wanted a whole number, 0 or more ()",
                "stages[0].objective.first.lamda: unknown key (did you mean `lambda`?)",
                "stages[0].objective.first.lambda: missing, and it has no default ()",
            ]
        );
        assert_eq!(
            problems("stages: [{objective: frist}]"),
            ["stages[0].objective: got `frist`, wanted one of `rank_zephyr`, `first`, `plain` (did you mean `first`?)"]
        );
        assert_eq!(
            problems("stage: []"),
            ["stage: unknown key (did you mean `stages`?)", "stages: missing, and it has no default ()"]
        );
    }
}
