//! Chat templates: Jinja as Hugging Face's tokenizers use it.

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Name of the one template in the environment.
const NAME: &str = "chat_template";

/// The day `strftime_now` tells. Prompts must not change from day to day, so it is fixed: the date Llama 3's own
/// templates fall back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateDate {
    /// Year.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

impl Default for TemplateDate {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Compiles `source`; errors name the line.
    pub fn new(source: &str, date: TemplateDate) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| strftime(&format, date));
        environment.add_filter("tojson", tojson);
        let compiled = environment.add_template_owned(NAME, without_generation_tags(source));
        compiled.map_err(|error| describe(&error))?;
        Ok(Self { environment, source: source.to_owned() })
    }

    /// Text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders with `context`, a JSON object.
    pub fn render(&self, context: &serde_json::Value) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|error| describe(&error))?;
        template.render(Value::from(Serde(context))).map_err(|error| describe(&error))
    }
}

fn describe(error: &Error) -> String {
    let reason = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    error.line().map_or(reason.clone(), |line| format!("line {line}: {reason}"))
}

/// `{% generation %}` marks the assistant's text for masks; to the text itself it means nothing, but Jinja does not
/// know it. An `if true` block keeps the white-space rules of a tag.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        result.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match name {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

/// As Python's `json.dumps(value, ensure_ascii=False)`, with its spaces.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // accepted for the sake of templates that pass them with their defaults
    let _: (Option<bool>, Option<Value>, Option<bool>) =
        (options.get("ensure_ascii")?, options.get("separators")?, options.get("sort_keys")?);
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(indent) => {
            let indent = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
            serde::Serialize::serialize(&value, &mut serializer).map_err(failed)?;
        }
        None => {
            let mut serializer = Serializer::with_formatter(&mut bytes, PythonFormatter);
            serde::Serialize::serialize(&value, &mut serializer).map_err(failed)?;
        }
    }
    Ok(String::from_utf8(bytes).expect("serde_json writes UTF-8"))
}

/// `, ` and `: ` as separators.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The part of strftime that chat templates use.
fn strftime(format: &str, date: TemplateDate) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = MONTHS[(date.month.clamp(1, 12) - 1) as usize];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('d') => text.push_str(&format!("{:02}", date.day)),
            Some('m') => text.push_str(&format!("{:02}", date.month)),
            Some('Y') => text.push_str(&date.year.to_string()),
            Some('y') => text.push_str(&format!("{:02}", date.year.rem_euclid(100))),
            Some('B') => text.push_str(month),
            Some('b' | 'h') => text.push_str(&month[..3]),
            Some('H' | 'M' | 'S') => text.push_str("00"),
            Some('%') => text.push('%'),
            other => {
                let problem = format!("strftime_now: `%{}` is not supported", other.unwrap_or(' '));
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, context: serde_json::Value) -> Result<String, String> {
        ChatTemplate::new(source, TemplateDate::default())?.render(&context)
    }

    #[test]
    fn zephyr() {
        let source = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
        let context = json!({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
            "eos_token": "</s>", "add_generation_prompt": true});
        assert_eq!(render(source, context).unwrap(), "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n");
    }

    #[test]
    fn python_habits() {
        let context = json!({"x": {"b": [1, "<é>"], "a": null}, "s": " ab "});
        let got = render("{{ x | tojson }}|{{ s.strip().split('b') }}|{{ x.items() | length }}", context).unwrap();
        assert_eq!(got, r#"{"b": [1, "<é>"], "a": null}|['a', '']|2"#);
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", json!({})).unwrap(), "26 Jul 2024");
    }

    #[test]
    fn generation_tags_vanish_and_refusals_are_told() {
        let source = "{% for m in messages %}a {%- generation -%} {{ m }} {%- endgeneration %}\n{% endfor %}";
        assert_eq!(render(source, json!({"messages": ["x"]})).unwrap(), "ax");
        let error = render("\n{{ raise_exception('no system turn') }}", json!({})).unwrap_err();
        assert!(error.contains("line 2") && error.contains("no system turn"), "{error}");
        assert!(render("{% if %}", json!({})).unwrap_err().contains("line 1"));
    }
}
