use std::fmt::Write;

use serde_json::Value;

use super::Config;
use super::keys::{self, Node, Shape};

const INTRODUCTION: &str = "\
Configuration of Stethos: every key with its default. `stethos config reference` prints this
file, `stethos config check` checks yours. Leave out what you do not change.

A variable sets a key, too, and wins over the file: STETHOS_ and the key in capitals, with _ for
every dot (STETHOS_CAPTURE_RING_SIZE sets capture.ring_size). Flags win over variables.";

/// Width of comments.
const WIDTH: usize = 96;

/// The reference file: YAML with every key, its documentation and its default.
pub fn reference() -> String {
    let schema = keys::schema();
    // A configuration is plain values with text for keys: it always has a JSON form.
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut out = String::new();
    comment(&mut out, "", INTRODUCTION);
    section(&mut out, "", Node::root(&schema), &defaults);
    out
}

fn section(out: &mut String, indent: &str, node: Node<'_>, defaults: &Value) {
    let Shape::Section(entries) = node.shape() else {
        return;
    };
    for (i, (name, child)) in entries.into_iter().enumerate() {
        if indent.is_empty() || i > 0 {
            out.push('\n');
        }
        comment(out, indent, &about(child));
        let default = &defaults[name];
        let deeper = format!("{indent}  ");
        match child.shape() {
            Shape::Section(_) => {
                put(out, &format!("{indent}{name}:"));
                section(out, &deeper, child, default);
            }
            Shape::List(items) => {
                let values = default.as_array().map(Vec::as_slice).unwrap_or_default();
                if values.is_empty() {
                    put(out, &format!("{indent}{name}: []"));
                } else {
                    put(out, &format!("{indent}{name}:"));
                }
                for value in values {
                    put(out, &format!("{deeper}- {}", scalar(value)));
                }
                if let Shape::Section(_) = items.shape() {
                    entry(out, &deeper, items);
                }
            }
            Shape::Scalar => put(out, &format!("{indent}{name}: {}", scalar(default))),
        }
    }
}

/// The keys of an entry of a list, all as comments.
fn entry(out: &mut String, indent: &str, node: Node<'_>) {
    let mut text = String::new();
    fields(&mut text, "  ", node);
    comment(out, indent, "An entry:");
    let mut lines = text.lines();
    if let Some(first) = lines.next() {
        put(
            out,
            &format!("{indent}# -{}", first.get(1..).unwrap_or_default()),
        );
    }
    for line in lines {
        put(out, &format!("{indent}# {line}"));
    }
}

fn fields(out: &mut String, indent: &str, node: Node<'_>) {
    let Shape::Section(entries) = node.shape() else {
        return;
    };
    for (name, child) in entries {
        let about = about(child).replace('\n', " ");
        if let Shape::Section(_) = child.shape() {
            put(out, &format!("{indent}{name}: # {about}"));
            fields(out, &format!("{indent}  "), child);
        } else {
            put(out, &format!("{indent}{name}: … # {about}"));
        }
    }
}

/// The documentation of a key and what it allows.
fn about(node: Node<'_>) -> String {
    let mut text = node.description().to_string();
    if let Some((least, greatest)) = node.range() {
        // Writing to a string does not fail.
        let _ = write!(text, " Allowed: {least} to {greatest}.");
    }
    let words = node.words();
    if !words.is_empty() {
        let _ = write!(text, " Allowed: {}.", words.join(", "));
    }
    text
}

/// Appends `text` as comment lines, filled to [`WIDTH`]; an empty line keeps paragraphs apart.
fn comment(out: &mut String, indent: &str, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            put(out, &format!("{indent}#"));
        }
        let mut line = format!("{indent}#");
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                put(out, &line);
                line = format!("{indent}#");
            }
            line.push(' ');
            line.push_str(word);
        }
        put(out, &line);
    }
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// A value on one line of YAML, quoted where plain text would be read as something else.
fn scalar(value: &Value) -> String {
    let plain = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_./=-".contains(c))
            && text.parse::<f64>().is_err()
            && !["true", "false", "null"].contains(text)
    };
    value
        .as_str()
        .filter(plain)
        .map_or_else(|| value.to_string(), str::to_string)
}
