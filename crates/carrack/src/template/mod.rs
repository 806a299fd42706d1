//! Go templates for `--format`: the part of Go's `text/template` and of Docker's functions that people use.
//!
//! Text, `{{pipeline}}` with trimming (`{{-`, `-}}`) and comments, `if`/`else`/`range`/`with`/`end`, fields,
//! variables, literals, and the functions of `functions`. Templates run over JSON values: an object is what Go
//! knows as a struct or a map. An absent key that begins with a capital is an error, as a field that a Go struct
//! does not have; any other absent key is `<no value>`, as in a Go map.

mod functions;
mod lexer;
mod parser;
mod render;

use serde_json::Value;

use crate::failure::Failure;

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("invalid template: {0}")]
pub struct TemplateError(String);

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::message(error.to_string())
    }
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(TemplateError(reason.into()))
}

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { nodes: parser::parse(lexer::split(text)?)? })
    }

    /// Parses the value of `--format` of commands that show one object: `json` stands for the whole of it.
    pub fn parse_format(format: &str) -> Result<Self> {
        Self::parse(if format == "json" { "{{json .}}" } else { format })
    }

    /// Renders the template over `value`.
    pub fn render(&self, value: &Value) -> Result<String> {
        render::render(&self.nodes, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> String {
        let value = json!({
            "Name": "app", "Size": 42, "Tags": ["a", "b"], "Empty": [], "On": true,
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"k.x": "v"}, "User": ""},
            "Labels": "a=1,b=2",
            "None": {"Labels": null, "Entrypoint": null, "Other": null},
            "Ports": {"80/tcp": [{"HostPort": "8080"}], "90/udp": null},
        });
        match Template::parse(template).and_then(|template| template.render(&value)) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn fields_and_functions() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Name}}:{{.Size}}", "app:42"),
            ("{{ .Config.Env }}", "[A=1 B=2]"),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{join .Tags \", \"}}", "a, b"),
            ("{{index .Tags 1}} {{index .Config.Labels \"k.x\"}}", "b v"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{.Name | upper | printf \"%s-%s\" \"x\"}}", "x-APP"),
            ("{{len .Tags}} {{upper .Name}} {{title .Name}} {{truncate .Name 2}}", "2 APP App ap"),
            ("{{printf \"%-5s|%3d|%q|%v\" .Name .Size .Name .On}}", "app  | 42|\"app\"|true"),
            ("{{println .Name}}", "app\n"),
            ("{{.Config.Labels.absent}}", "<no value>"),
            (
                "{{.None.Labels.absent}} {{.None.Labels}} {{.None.Entrypoint}} {{.None.Other}}",
                "<no value> map[] [] <no value>",
            ),
            ("{{json .None.Labels}}", "null"),
            ("[{{index .Config.Labels \"absent\"}}] [{{index .None.Labels \"absent\"}}]", "[] []"),
            ("{{index .Ports \"absent\"}}", "<no value>"),
            ("{{.NAME}}{{if .Config.Health}}x{{else}}none{{end}}", "appnone"),
            ("{{.Label \"b\"}}|{{.Label \"c\"}}", "2|"),
            ("{{slice .Name 1}} {{slice .Name 0 2}} {{slice .Tags 1}}", "pp ap [b]"),
            ("{{.Name}}\\t{{.Size}}\\n{{print \"\\t\"}}", "app\t42\n\t"),
            ("{{split \"a/b\" \"/\"}}", "[a b]"),
        ] {
            assert_eq!(render(template), expected, "{template}");
        }
    }

    #[test]
    fn control() {
        for (template, expected) in [
            ("{{if .On}}yes{{else}}no{{end}}", "yes"),
            ("{{if .Empty}}yes{{else if eq .Name \"app\"}}app{{else}}no{{end}}", "app"),
            ("{{if and .On (gt .Size 41) (not .Config.User)}}yes{{end}}", "yes"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range $i, $t := .Tags}}{{$i}}={{$t}}{{$.Name}} {{end}}", "0=aapp 1=bapp "),
            (
                "{{range $p, $c := .Ports}}{{$p}}{{range $c}}->{{.HostPort}}{{end}};{{end}}",
                "80/tcp->8080;90/udp;",
            ),
            ("{{with .Config}}{{.User}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "y"),
            ("a  {{- /* note */ -}}  b {{- .Name -}} c", "abappc"),
            ("{{$n := .Name}}{{$n}}", "app"),
        ] {
            assert_eq!(render(template), expected, "{template}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (template, reason) in [
            ("{{.Nmae}}", "no field Nmae"),
            ("{{.Name", "unclosed action"),
            ("{{if .On}}", "unexpected end: expected {{end}}"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{nope .}}", "no function nope"),
            ("{{index .Tags 7}}", "out of range"),
            ("{{slice .Name 2 9}}", "out of range"),
            ("{{.None.Labels.Absent}}", "no field Absent"),
            ("{{\"a}}", "unclosed string"),
            ("{{}}", "empty action"),
        ] {
            let message = render(template);
            assert!(message.contains(reason), "{template}: {message}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{{{{{}.{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(render(&deep).contains("too deep"));
    }
}
