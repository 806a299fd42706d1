//! Pieces into a tree.

use serde_json::Value;

use super::lexer::{Piece, Token};
use super::{Result, refuse};

const MAX_DEPTH: usize = 100;

/// A node of the tree.
#[derive(Debug)]
pub enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// `$a, $b := command | command`
#[derive(Debug)]
pub struct Pipeline {
    /// The variables that take the result.
    pub variables: Vec<String>,
    pub commands: Vec<Command>,
}

/// A function with its arguments, or a single operand.
#[derive(Debug)]
pub struct Command {
    pub function: Option<String>,
    pub arguments: Vec<Operand>,
}

#[derive(Debug)]
pub enum Operand {
    Literal(Value),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Group(Pipeline, Vec<String>),
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum Stop {
    Template,
    End,
    Else(Vec<Token>),
}

type Pieces = std::iter::Peekable<std::vec::IntoIter<Piece>>;

/// Parses a whole template.
pub fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>> {
    let mut pieces = pieces.into_iter().peekable();
    match nodes(&mut pieces, 0)? {
        (nodes, Stop::Template) => Ok(nodes),
        (_, Stop::End) => refuse("unexpected {{end}}"),
        (_, Stop::Else(_)) => refuse("unexpected {{else}}"),
    }
}

fn nodes(pieces: &mut Pieces, depth: usize) -> Result<(Vec<Node>, Stop)> {
    if depth > MAX_DEPTH {
        return refuse("nested too deep");
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let keyword = match &tokens[0] {
            Token::Word(word) => word.as_str(),
            _ => "",
        };
        match keyword {
            "end" => return Ok((nodes, Stop::End)),
            "else" => return Ok((nodes, Stop::Else(tokens[1..].to_vec()))),
            "if" | "range" | "with" => nodes.push(block(&tokens, pieces, depth)?),
            _ => nodes.push(Node::Print(whole_pipeline(&tokens)?)),
        }
    }
    Ok((nodes, Stop::Template))
}

/// `{{keyword pipeline}} body {{else}} otherwise {{end}}`
fn block(tokens: &[Token], pieces: &mut Pieces, depth: usize) -> Result<Node> {
    let value = whole_pipeline(&tokens[1..])?;
    let (body, end) = nodes(pieces, depth + 1)?;
    let otherwise = match end {
        Stop::Template => return refuse("unexpected end: expected {{end}}"),
        Stop::End => Vec::new(),
        // `{{else if}}` is an if inside the else that shares its end.
        Stop::Else(condition) if !condition.is_empty() => vec![block(&condition, pieces, depth + 1)?],
        Stop::Else(_) => match nodes(pieces, depth + 1)? {
            (nodes, Stop::End) => nodes,
            _ => return refuse("unexpected end: expected {{end}}"),
        },
    };
    match &tokens[0] {
        Token::Word(word) if word == "if" => Ok(Node::If { condition: value, then: body, otherwise }),
        Token::Word(word) if word == "range" => Ok(Node::Range { over: value, body, otherwise }),
        Token::Word(word) if word == "with" => Ok(Node::With { value, body, otherwise }),
        _ => refuse("expected if or with after else"),
    }
}

fn whole_pipeline(tokens: &[Token]) -> Result<Pipeline> {
    let mut rest = tokens;
    let pipeline = pipeline(&mut rest, 0)?;
    if rest.is_empty() { Ok(pipeline) } else { refuse(format!("unexpected {:?}", rest[0])) }
}

fn pipeline(tokens: &mut &[Token], depth: usize) -> Result<Pipeline> {
    if depth > MAX_DEPTH {
        return refuse("nested too deep");
    }
    let variables = assigned(tokens);
    let mut commands = vec![command(tokens, depth)?];
    while let [Token::Pipe, rest @ ..] = tokens {
        *tokens = rest;
        commands.push(command(tokens, depth)?);
    }
    Ok(Pipeline { variables, commands })
}

/// Takes `$a :=` or `$a, $b :=`.
fn assigned(tokens: &mut &[Token]) -> Vec<String> {
    let (variables, rest) = match *tokens {
        [Token::Variable(one, _), Token::Assign, rest @ ..] => (vec![one.clone()], rest),
        [Token::Variable(one, _), Token::Comma, Token::Variable(two, _), Token::Assign, rest @ ..] => {
            (vec![one.clone(), two.clone()], rest)
        }
        rest => (Vec::new(), rest),
    };
    *tokens = rest;
    variables
}

fn command(tokens: &mut &[Token], depth: usize) -> Result<Command> {
    let mut command = Command { function: None, arguments: Vec::new() };
    if let [Token::Word(word), rest @ ..] = *tokens
        && !matches!(word.as_str(), "true" | "false" | "nil")
    {
        command.function = Some(word.clone());
        *tokens = rest;
    }
    while let [token, rest @ ..] = *tokens {
        let operand = match token {
            Token::Pipe | Token::Close(_) => break,
            Token::Field(fields) => Operand::Field(fields.clone()),
            Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
            Token::Text(text) => Operand::Literal(text.as_str().into()),
            Token::Number(number) => Operand::Literal(Value::Number(number.clone())),
            Token::Word(word) if word == "nil" => Operand::Literal(Value::Null),
            Token::Word(word) if word == "true" || word == "false" => {
                Operand::Literal((word == "true").into())
            }
            Token::Open => {
                *tokens = rest;
                let inner = pipeline(tokens, depth + 1)?;
                let [Token::Close(fields), ..] = *tokens else { return refuse("unclosed parenthesis") };
                Operand::Group(inner, fields.clone())
            }
            other => return refuse(format!("unexpected {other:?}")),
        };
        *tokens = &tokens[1..];
        command.arguments.push(operand);
    }
    // Docker's one method of a row: `.Label "key"`.
    if let (None, [Operand::Field(path), Operand::Literal(_)]) =
        (&command.function, &mut command.arguments[..])
        && path[..] == ["Label"]
    {
        path[0] = "Labels".to_owned();
        command.function = Some("label".to_owned());
    }
    match (&command.function, command.arguments.len()) {
        (None, 0) => refuse("missing value"),
        (None, 2..) => refuse("a value is not a function, but has arguments"),
        _ => Ok(command),
    }
}
