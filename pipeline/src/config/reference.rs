//! `configs/REFERENCE.md`: every key of an experiment file, from the doc comments of the structs that hold them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::schema::experiment_schema;

const HEAD: &str = "# Keys of an experiment file

Written by `monopass config schema --markdown > configs/REFERENCE.md`; a test compares the two. Strings may hold
`${NAME}` or `${NAME:-default}` for variables of the environment. An entry with several kinds (`one of`) is written as a
bare word, its settings then being the defaults, or as a map of one key: `objective: {first: {lambda: 10}}`.
";

/// The page.
pub fn reference_page() -> String {
    let schema = experiment_schema();
    let mut page = HEAD.to_owned();
    let mut writer = Writer { schema: &schema, seen: BTreeSet::new(), queue: Vec::new() };
    writer.section(&mut page, "The file", &schema);
    while !writer.queue.is_empty() {
        let name = writer.queue.remove(0);
        let definition = &schema["$defs"][&name];
        writer.section(&mut page, &name, definition);
    }
    page
}

struct Writer<'a> {
    schema: &'a Value,
    seen: BTreeSet<String>,
    queue: Vec<String>,
}

impl Writer<'_> {
    fn section(&mut self, page: &mut String, title: &str, definition: &Value) {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {title}\n\n");
        if let Some(text) = definition["description"].as_str() {
            let _ = writeln!(page, "{}\n", one_line(text));
        }
        if let Some(properties) = definition["properties"].as_object() {
            page.push_str("| key | value | what |\n| --- | --- | --- |\n");
            let required: Vec<&str> =
                definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (key, value) in properties {
                let kind = self.kind(value);
                let must = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
                let text = one_line(value["description"].as_str().unwrap_or_default());
                let _ = writeln!(page, "| `{key}` | {kind} | {}{must} |", text.replace('|', "\\|"));
            }
        }
        self.variants(page, definition);
    }

    fn variants(&mut self, page: &mut String, definition: &Value) {
        let Some(variants) = definition["oneOf"].as_array() else { return };
        page.push_str("One of:\n\n");
        for variant in variants {
            let text = one_line(variant["description"].as_str().unwrap_or_default());
            if let Some(properties) = variant["properties"].as_object() {
                for (key, value) in properties {
                    let kind = self.kind(value);
                    let _ = writeln!(page, "- `{key}:` {kind}: {text}");
                }
            }
            let words = variant["const"]
                .as_str()
                .into_iter()
                .chain(variant["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
            for word in words {
                let _ = writeln!(page, "- `{word}`: {text}");
            }
        }
    }

    /// Kind of a value in words; definitions it refers to are described later.
    fn kind(&mut self, value: &Value) -> String {
        if let Some(name) = value["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            let description = &self.schema["$defs"][name];
            if name == "Names" {
                return "name or list of names".to_owned();
            }
            if description["type"] == "string" && description["enum"].is_null() {
                return "text".to_owned();
            }
            if self.seen.insert(name.to_owned()) {
                self.queue.push(name.to_owned());
            }
            return format!("[{name}](#{})", name.to_lowercase());
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(options) = value[key].as_array() {
                let kinds: Vec<String> =
                    options.iter().filter(|option| option["type"] != "null").map(|option| self.kind(option)).collect();
                return kinds.join(" or ");
            }
        }
        let of_type = |kind: &str| {
            match kind {
                "integer" => "whole number",
                "number" => "number",
                "boolean" => "`true` or `false`",
                "string" => "text",
                "array" => "list",
                "object" => "map",
                other => return other.to_owned(),
            }
            .to_owned()
        };
        let kind = match &value["type"] {
            Value::String(kind) => kind.as_str(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any"),
            _ => "any",
        };
        match kind {
            "array" if value["items"].is_object() => format!("list of {}", self.kind(&value["items"])),
            "object" if value["additionalProperties"].is_object() => {
                format!("map of names to {}", self.kind(&value["additionalProperties"]))
            }
            "string" if value["enum"].is_array() => {
                let words = value["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
                words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
            }
            other => of_type(other),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
