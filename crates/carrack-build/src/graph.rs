//! Which stages are built, and in which order: only those that the target needs, each after those it needs.

use carrack_dockerfile::{Copy, Dockerfile, Instruction, InstructionKind, Run, parse_trigger};
use carrack_oci::{Platform, Reference};

use crate::scope::Globals;
use crate::{Backend, BaseImage, BuildPlan, Error, Result};

/// More stages than any file has that a person wrote.
const MAX_STAGES: usize = 1000;

/// A stage that is built.
pub(crate) struct StagePlan {
    /// Its index in the file.
    pub(crate) index: usize,
    pub(crate) base: Base,
    pub(crate) platform: Platform,
    /// What progress shows for `FROM`.
    pub(crate) from: String,
    /// With the triggers of the base first.
    pub(crate) instructions: Vec<Instruction>,
}

/// What a stage begins with.
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(Box<BaseImage>),
}

/// Resolves the base images, and with them the triggers, of all that the target needs.
pub(crate) fn resolve<B: Backend>(
    plan: &BuildPlan,
    globals: &Globals<'_>,
    backend: &mut B,
) -> Result<Vec<StagePlan>> {
    let file = &plan.dockerfile;
    if file.stages.len() > MAX_STAGES {
        return Err(Error::invalid(format!("{} stages: expected at most {MAX_STAGES}", file.stages.len())));
    }
    let target = match &plan.target {
        None => file.stages.len() - 1,
        Some(name) => file.stage(name).ok_or_else(|| no_such_stage(file, name))?,
    };
    let marks = vec![Mark::New; file.stages.len()];
    let mut resolver = Resolver { plan, globals, backend, marks, order: Vec::new() };
    resolver.visit(target)?;
    Ok(resolver.order)
}

fn no_such_stage(file: &Dockerfile, name: &str) -> Error {
    let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    Error::invalid(match names.is_empty() {
        true => format!("no stage {name:?}: the file names none"),
        false => format!("no stage {name:?}: the file has {}", names.join(", ")),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

struct Resolver<'a, B> {
    plan: &'a BuildPlan,
    globals: &'a Globals<'a>,
    backend: &'a mut B,
    marks: Vec<Mark>,
    order: Vec<StagePlan>,
}

impl<B: Backend> Resolver<'_, B> {
    fn visit(&mut self, index: usize) -> Result<()> {
        match self.marks[index] {
            Mark::Done => return Ok(()),
            Mark::Open => {
                let name = stage_name(&self.plan.dockerfile, index);
                return Err(Error::invalid(format!("the stage {name} needs itself")));
            }
            Mark::New => self.marks[index] = Mark::Open,
        }
        let stage = &self.plan.dockerfile.stages[index];
        let planned = self.plan_stage(index).map_err(|source| Error::Step {
            line: stage.lines.start,
            instruction: format!("FROM {}", stage.base),
            source: Box::new(source),
        })?;
        if let Base::Stage(base) = planned.base {
            self.visit(base)?;
        }
        for name in planned.instructions.iter().flat_map(sources) {
            if let Some(source) = self.plan.dockerfile.stage(name) {
                self.visit(source)?;
            }
        }
        self.marks[index] = Mark::Done;
        self.order.push(planned);
        Ok(())
    }

    fn plan_stage(&mut self, index: usize) -> Result<StagePlan> {
        let file = &self.plan.dockerfile;
        let stage = &file.stages[index];
        let name = self.globals.expand(&stage.base)?;
        if name.is_empty() {
            return Err(Error::invalid(format!("{:?} expands to an empty text", stage.base)));
        }
        let platform = match &stage.platform {
            None => self.plan.platform.clone(),
            Some(text) => {
                let text = self.globals.expand(text)?;
                text.parse().map_err(|error| Error::invalid(format!("--platform: {error}")))?
            }
        };
        let base = match file.base_stage(&name, index) {
            Some(earlier) => Base::Stage(earlier),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(Box::new(base_image(self.backend, &name, &platform)?)),
        };
        let triggers = match &base {
            Base::Scratch => Vec::new(),
            Base::Image(image) => image.config.config.on_build.clone().unwrap_or_default(),
            Base::Stage(earlier) => own_triggers(&file.stages[*earlier].instructions),
        };
        let mut instructions = Vec::new();
        for text in triggers {
            let parsed = parse_trigger(&text);
            let mut trigger = parsed.map_err(|source| Error::Trigger { trigger: text, source })?;
            trigger.lines = stage.lines.clone();
            instructions.push(trigger);
        }
        instructions.extend(stage.instructions.iter().cloned());
        Ok(StagePlan { index, base, platform, from: format!("FROM {name}"), instructions })
    }
}

/// Resolves what a text names as an image.
pub(crate) fn base_image<B: Backend>(backend: &mut B, name: &str, platform: &Platform) -> Result<BaseImage> {
    // What a name meant before, as in `app@{1}`, only the backend knows.
    let parsed = name.rsplit_once("@{").map_or(name, |(name, _)| name).parse::<Reference>();
    parsed.map_err(|source| Error::Reference { text: name.to_owned(), source })?;
    backend.base(name, platform).map_err(Error::backend(format!("use the image {name}")))
}

fn own_triggers(instructions: &[Instruction]) -> Vec<String> {
    let triggers = instructions.iter().filter_map(|instruction| match &instruction.kind {
        InstructionKind::OnBuild(text) => Some(text.clone()),
        _ => None,
    });
    triggers.collect()
}

/// The stages or images that an instruction takes files from.
fn sources(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        InstructionKind::Copy(Copy { from, .. }) => from.as_deref().into_iter().collect(),
        InstructionKind::Run(Run { mounts, .. }) => mounts.iter().filter_map(|mount| mount.from()).collect(),
        _ => Vec::new(),
    }
}

/// How messages call a stage: its name, or its number.
pub(crate) fn stage_name(file: &Dockerfile, index: usize) -> String {
    file.stages[index].name.clone().unwrap_or_else(|| index.to_string())
}
