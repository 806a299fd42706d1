//! The build itself: stages in order, steps in order; each step is looked up, else carried out and remembered.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use carrack_dockerfile::{ArgDeclaration, Instruction, InstructionKind};
use carrack_oci::{History, ImageConfig, Platform};

use crate::configure::Configured;
use crate::graph::{Base, StagePlan, base_image, resolve, stage_name};
use crate::scope::Globals;
use crate::{Backend, BuildPlan, Built, CacheKey, Error, Event, Layer, Outcome, Result};

/// What an instruction finds where the base image sets no `PATH`.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What history entries of carrack say about themselves.
const HISTORY_COMMENT: &str = "carrack.dockerfile.v0";

/// Builds the target of a plan. Steps that the cache knows are not carried out; nothing is named in the end: the
/// caller writes config and manifest.
pub fn build<B: Backend>(plan: &BuildPlan, backend: &mut B, progress: &dyn Fn(Event<'_>)) -> Result<Built> {
    for warning in &plan.dockerfile.warnings {
        progress(Event::Warning { line: Some(warning.line), message: &warning.message });
    }
    let globals = Globals::new(plan)?;
    let stages = resolve(plan, &globals, backend)?;
    let timestamp_unix = plan.timestamp_unix.unwrap_or_else(|| newest_base(&stages));
    let created = jiff::Timestamp::from_second(timestamp_unix)
        .map_err(|error| Error::invalid(format!("invalid build time: {error}")))?
        .to_string();
    let total = stages.iter().map(|stage| stage.instructions.len() + 1).sum();
    let builder = Builder {
        plan,
        globals,
        backend,
        progress,
        timestamp_unix,
        created,
        number: 0,
        total,
        stages: BTreeMap::new(),
        images: HashMap::new(),
    };
    builder.build(stages)
}

/// When the newest base image was made, in seconds since 1970; 0 without any that says. A date that follows from the
/// inputs keeps the digests the same, and is closer to the truth than a constant.
fn newest_base(stages: &[StagePlan]) -> i64 {
    let created = |stage: &StagePlan| match &stage.base {
        Base::Image(image) => image.config.created.as_ref()?.parse::<jiff::Timestamp>().ok(),
        Base::Scratch | Base::Stage(_) => None,
    };
    stages.iter().filter_map(created).map(jiff::Timestamp::as_second).max().unwrap_or(0).max(0)
}

/// A stage while it is built, and after.
#[derive(Clone)]
pub(crate) struct StageState {
    pub(crate) configured: Configured,
    pub(crate) layers: Vec<Layer>,
    /// Declared `ARG`s, for the history of `RUN`; a stage based on this one has them too.
    pub(crate) args: Vec<(String, Option<String>)>,
    pub(crate) platform: Platform,
}

pub(crate) struct Builder<'a, B: Backend> {
    pub(crate) plan: &'a BuildPlan,
    pub(crate) globals: Globals<'a>,
    pub(crate) backend: &'a mut B,
    pub(crate) progress: &'a dyn Fn(Event<'_>),
    /// The date of the image, and the latest of a file in its new layers, in seconds since 1970.
    pub(crate) timestamp_unix: i64,
    /// The same as text.
    created: String,
    pub(crate) number: usize,
    total: usize,
    stages: BTreeMap<usize, StageState>,
    /// Images that `--from` names, by the text and the platform.
    images: HashMap<(String, String), Vec<Layer>>,
}

impl<B: Backend> Builder<'_, B> {
    fn build(mut self, stages: Vec<StagePlan>) -> Result<Built> {
        let mut result = None;
        for stage in stages {
            let index = stage.index;
            let state = self.stage(stage)?;
            result = Some(index);
            self.stages.insert(index, state);
        }
        for name in self.globals.unused() {
            let message = format!("the build argument {name} is declared by no ARG");
            (self.progress)(Event::Warning { line: None, message: &message });
        }
        self.plan.context.save_stat_cache()?;
        let state = result.and_then(|index| self.stages.remove(&index));
        let state = state.ok_or_else(|| Error::invalid("there is no stage to build"))?;
        Ok(self.finish(state))
    }

    fn finish(&self, state: StageState) -> Built {
        let StageState { configured: Configured { mut config, .. }, layers, .. } = state;
        config.created = Some(self.created.clone());
        config.comment = None;
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        if !self.plan.labels.is_empty() {
            config.config.labels.get_or_insert_default().extend(self.plan.labels.clone());
        }
        Built { config, layers }
    }

    fn stage(&mut self, stage: StagePlan) -> Result<StageState> {
        let StagePlan { index, base, platform, from, instructions } = stage;
        let name = stage_name(&self.plan.dockerfile, index);
        let started = self.begin(&name, &from);
        let mut state = self.start(base, platform);
        self.end(started);
        for instruction in &instructions {
            let started = self.begin(&name, &instruction.text);
            self.instruction(&mut state, instruction).map_err(|source| Error::Step {
                line: instruction.lines.start,
                instruction: shortened(&instruction.text),
                source: Box::new(source),
            })?;
            self.end(started);
        }
        Ok(state)
    }

    fn begin(&mut self, stage: &str, text: &str) -> Instant {
        self.number += 1;
        (self.progress)(Event::Step { number: self.number, total: self.total, stage, text });
        Instant::now()
    }

    fn end(&self, started: Instant) {
        (self.progress)(Event::Done { number: self.number, duration: started.elapsed() });
    }

    /// The state after `FROM`. Triggers of the base are among the instructions, and so leave its config.
    fn start(&self, base: Base, platform: Platform) -> StageState {
        let mut state = match base {
            Base::Scratch => {
                let mut config = ImageConfig::empty(&platform);
                config.config.env = vec![format!("PATH={DEFAULT_PATH}")];
                config.config.working_dir = "/".to_owned();
                StageState { configured: Configured::new(config), layers: vec![], args: vec![], platform }
            }
            Base::Image(image) => {
                let configured = Configured::new(image.config);
                StageState { configured, layers: image.layers, args: vec![], platform }
            }
            Base::Stage(index) => self.stages[&index].clone(),
        };
        state.configured.has_cmd = false;
        state.configured.config.config.on_build = None;
        state
    }

    fn instruction(&mut self, state: &mut StageState, instruction: &Instruction) -> Result<()> {
        let escape = self.plan.dockerfile.escape;
        if let Some(text) = state.configured.apply(&instruction.kind, escape)? {
            self.remember(state, text, None);
            return Ok(());
        }
        let (text, outcome) = match &instruction.kind {
            InstructionKind::Arg(declarations) => (self.arg(state, declarations)?, Outcome::UNCHANGED),
            InstructionKind::Workdir(path) => self.workdir(state, path)?,
            InstructionKind::Run(run) => self.run(state, run)?,
            InstructionKind::Copy(copy) => self.copy(state, copy, "COPY")?,
            InstructionKind::Add(copy) => self.copy(state, copy, "ADD")?,
            other => return Err(Error::invalid(format!("an instruction that nothing handles: {other:?}"))),
        };
        self.remember(state, text, outcome.layer);
        Ok(())
    }

    /// Adds a history entry, and the layer that it has.
    fn remember(&self, state: &mut StageState, created_by: String, layer: Option<Layer>) {
        state.configured.config.history.push(History {
            created: Some(self.created.clone()),
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        state.layers.extend(layer);
    }

    fn arg(&self, state: &mut StageState, declarations: &[ArgDeclaration]) -> Result<String> {
        let mut text = "ARG".to_owned();
        for declaration in declarations {
            let name = &declaration.name;
            let value = self.globals.declare(&state.configured, declaration)?;
            text.push_str(&format!(" {name}"));
            if let Some(value) = &value {
                text.push_str(&format!("={value}"));
                state.configured.set_variable(name, value.clone());
            }
            state.args.retain(|(own, _)| own != name);
            state.args.push((name.clone(), value));
        }
        Ok(text)
    }

    /// The outcome of a step that is in the cache.
    pub(crate) fn look_up(&mut self, key: &CacheKey) -> Result<Option<Outcome>> {
        if self.plan.no_cache {
            return Ok(None);
        }
        let found = self.backend.cached(key).map_err(Error::backend("look up the step in the cache"))?;
        if found.is_some() {
            (self.progress)(Event::Cached { number: self.number });
        }
        Ok(found)
    }

    pub(crate) fn prepare(&mut self, layers: &[Layer]) -> Result<B::Workspace> {
        self.backend.prepare(layers).map_err(Error::backend("prepare the file system of the step"))
    }

    pub(crate) fn view(&mut self, layers: &[Layer]) -> Result<B::Workspace> {
        self.backend.view(layers).map_err(Error::backend("open the file system to copy from"))
    }

    /// Makes the layer of a step and remembers it.
    pub(crate) fn commit(&mut self, workspace: B::Workspace, key: &CacheKey) -> Result<Outcome> {
        let committed = self.backend.commit(workspace, self.timestamp_unix);
        let layer = committed.map_err(Error::backend("make the layer of the step"))?;
        let outcome = Outcome { layer: Some(layer) };
        self.record(key, &outcome)?;
        Ok(outcome)
    }

    pub(crate) fn record(&mut self, key: &CacheKey, outcome: &Outcome) -> Result<()> {
        self.backend.record(key, outcome).map_err(Error::backend("remember the step in the cache"))
    }

    /// The layers of a stage or an image that `--from` names.
    pub(crate) fn layers_of(&mut self, name: &str, platform: &Platform) -> Result<Vec<Layer>> {
        if let Some(index) = self.plan.dockerfile.stage(name) {
            let state = self.stages.get(&index);
            return state
                .map(|state| state.layers.clone())
                .ok_or_else(|| Error::invalid(format!("the stage {name} is not built before this step")));
        }
        if name == "scratch" {
            return Ok(Vec::new());
        }
        let key = (name.to_owned(), platform.to_string());
        if let Some(layers) = self.images.get(&key) {
            return Ok(layers.clone());
        }
        let layers = base_image(self.backend, name, platform)?.layers;
        self.images.insert(key, layers.clone());
        Ok(layers)
    }
}

/// One line of an instruction, for messages.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 120;
    let flat: Vec<&str> = text.split_whitespace().collect();
    let flat = flat.join(" ");
    match flat.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &flat[..end]),
        None => flat,
    }
}
