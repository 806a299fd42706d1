//! Walking the tree over a value.

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
            text.push_str(&shown(&functions::print(&value)));
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
                None if name.starts_with(char::is_uppercase) => return refuse(format!("no field {name}")),
                None => return Ok(Value::String("<no value>".to_owned())),
            },
            Value::Null => return refuse(format!("no field {name} in an absent value")),
            _ => return refuse(format!("no field {name} in a simple value")),
        };
    }
    Ok(value.clone())
}
