//! Walking the tree over a value.

use std::sync::LazyLock;

use serde_json::Value;

use crate::output::shown;

use super::parser::{Command, Node, Operand, Pipeline};
use super::{Result, functions, refuse};

/// What a template sees: the dot and the variables, the innermost last.
struct Scope<'a> {
    dot: &'a Value,
    variables: Vec<(String, Value)>,
}

/// Renders `nodes` with `value` as dot and as `$`.
pub fn render(nodes: &[Node], value: &Value) -> Result<String> {
    let mut text = String::new();
    let mut scope = Scope { dot: value, variables: vec![(String::new(), value.clone())] };
    scope.nodes(nodes, &mut text)?;
    Ok(text)
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], text: &mut String) -> Result<()> {
        for node in nodes {
            match node {
                Node::Text(literal) => text.push_str(literal),
                Node::Print(pipeline) => self.print(pipeline, text)?,
                Node::If { condition, then, otherwise } => {
                    let known = self.variables.len();
                    let value = self.pipeline(condition)?;
                    self.assign(&condition.variables, std::slice::from_ref(&value));
                    self.nodes(if functions::is_true(&value) { then } else { otherwise }, text)?;
                    self.variables.truncate(known);
                }
                Node::With { value, body, otherwise } => {
                    let inner = self.pipeline(value)?;
                    if functions::is_true(&inner) {
                        self.inside(&inner, &value.variables, std::slice::from_ref(&inner), (body, text))?;
                    } else {
                        self.nodes(otherwise, text)?;
                    }
                }
                Node::Range { over, body, otherwise } => self.range(over, (body, otherwise), text)?,
            }
        }
        Ok(())
    }

    fn print(&mut self, pipeline: &Pipeline, text: &mut String) -> Result<()> {
        let value = self.pipeline(pipeline)?;
        if pipeline.variables.is_empty() {
            let printed = functions::print(if value.is_null() { empty(pipeline) } else { &value });
            text.push_str(&shown(&printed));
        } else {
            self.assign(&pipeline.variables, &[value]);
        }
        Ok(())
    }

    fn range(&mut self, over: &Pipeline, nodes: (&[Node], &[Node]), text: &mut String) -> Result<()> {
        let entries: Vec<(Value, Value)> = match self.pipeline(over)? {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(index, item)| (index.into(), item)).collect()
            }
            Value::Object(map) => map.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            Value::Null => Vec::new(),
            other => return refuse(format!("range over {other}: expected a list or a map")),
        };
        if entries.is_empty() {
            return self.nodes(nodes.1, text);
        }
        for (key, item) in entries {
            // One variable takes the item, two take key and item.
            let values = if over.variables.len() == 2 { vec![key, item.clone()] } else { vec![item.clone()] };
            self.inside(&item, &over.variables, &values, (nodes.0, text))?;
        }
        Ok(())
    }

    /// Renders nodes with another dot and further variables.
    fn inside(
        &mut self,
        dot: &Value,
        names: &[String],
        values: &[Value],
        to: (&[Node], &mut String),
    ) -> Result<()> {
        let mut scope = Scope { dot, variables: self.variables.clone() };
        scope.assign(names, values);
        scope.nodes(to.0, to.1)
    }

    fn assign(&mut self, names: &[String], values: &[Value]) {
        self.variables.extend(names.iter().cloned().zip(values.iter().cloned()));
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value> {
        let mut previous = None;
        for command in &pipeline.commands {
            previous = Some(self.command(command, previous)?);
        }
        Ok(previous.unwrap_or(Value::Null))
    }

    /// The result of the command before is the last argument.
    fn command(&self, command: &Command, previous: Option<Value>) -> Result<Value> {
        let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
        for operand in &command.arguments {
            arguments.push(self.operand(operand)?);
        }
        arguments.extend(previous);
        match &command.function {
            Some(function) => functions::call(function, &arguments),
            None => Ok(arguments.swap_remove(0)),
        }
    }

    fn operand(&self, operand: &Operand) -> Result<Value> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(path) => field(self.dot, path),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let Some((_, value)) = known else { return refuse(format!("no variable ${name}")) };
                field(value, path)
            }
            Operand::Group(pipeline, path) => field(&self.pipeline(pipeline)?, path),
        }
    }
}

fn field(value: &Value, path: &[String]) -> Result<Value> {
    let mut value = value;
    for name in path {
        value = match value {
            Value::Object(map) => match map.get(name) {
                Some(inner) => inner,
                None if name.starts_with(char::is_uppercase) => match go_field(map, name) {
                    Some(inner) => inner,
                    None => return refuse(format!("no field {name}")),
                },
                None => return Ok(Value::String("<no value>".to_owned())),
            },
            Value::Null if !name.starts_with(char::is_uppercase) => {
                return Ok(Value::String("<no value>".to_owned()));
            }
            Value::Null => return refuse(format!("no field {name} in an absent value")),
            _ => return refuse(format!("no field {name} in a simple value")),
        };
    }
    Ok(value.clone())
}

/// What an absent value prints as: in Go, lists and maps have a type also where nothing is in them.
fn empty(pipeline: &Pipeline) -> &'static Value {
    static NO_VALUE: Value = Value::Null;
    static LIST: Value = Value::Array(Vec::new());
    static MAP: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));
    let name = match &pipeline.commands[..] {
        [Command { function: None, arguments }] => match &arguments[..] {
            [Operand::Field(path) | Operand::Variable(_, path) | Operand::Group(_, path)] => path.last(),
            _ => None,
        },
        _ => None,
    };
    match name.map(String::as_str) {
        Some("Labels" | "Volumes" | "ExposedPorts" | "Annotations" | "Sysctls" | "Tmpfs" | "Options") => &MAP,
        Some(
            "Entrypoint" | "Cmd" | "Env" | "OnBuild" | "Shell" | "Args" | "Binds" | "CapAdd" | "CapDrop"
            | "Dns" | "DnsOptions" | "DnsSearch" | "ExtraHosts" | "GroupAdd" | "SecurityOpt" | "Devices"
            | "Ulimits" | "RepoTags" | "RepoDigests" | "Mounts" | "Names",
        ) => &LIST,
        _ => &NO_VALUE,
    }
}

/// A field by its name in Go, where that is another than in JSON (`ID`, `NanoCPUs`), or which JSON leaves out.
fn go_field<'v>(map: &'v serde_json::Map<String, Value>, name: &str) -> Option<&'v Value> {
    static ABSENT: Value = Value::Null;
    static EMPTY: Value = Value::String(String::new());
    if let Some((_, value)) = map.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(value);
    }
    match name {
        "Name" | "SandboxID" | "SandboxKey" => Some(&EMPTY),
        "Health" | "Healthcheck" | "ExecIDs" | "GraphDriver" | "SizeRw" | "SizeRootFs" => Some(&ABSENT),
        _ => None,
    }
}
