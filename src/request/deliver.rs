//! What becomes of built images, and what is said of them.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use builder::attest::Provenance;
use builder::deliver::{Annotations, AttestPlace, Family, Form, LayerForm, Level};
use oci::Reference;

use super::{Order, annotations};
use crate::args::{AttestAs, OutputArgs};
use crate::failure::Failure;
use crate::home::Environment;
use crate::value::{Annotation, Attest, Export, Output, ProvenanceArg, Push, SbomArg};

/// Where built images go.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// All names of the image.
    pub(crate) names: Vec<Reference>,
    /// Those of them that it is pushed under.
    pub(crate) pushed: Vec<Reference>,
    /// How they are pushed.
    pub(crate) push_form: Form,
    pub(crate) outputs: Vec<Output>,
    pub(crate) iidfile: Option<PathBuf>,
    pub(crate) metadata_file: Option<PathBuf>,
    /// Whether the metadata tell of the warnings.
    pub(crate) metadata_has_warnings: bool,
    /// Of the index of several platforms.
    pub(crate) annotations: Annotations,
    /// What is stated of each image.
    pub(crate) provenance: Option<Provenance>,
    pub(crate) sbom: bool,
    pub(crate) attest_place: AttestPlace,
}

impl Delivery {
    /// The form that layers will have first where they are taken out of the store, if they are.
    pub(crate) fn layers_leave_as(&self) -> Option<LayerForm> {
        let pushed = (!self.pushed.is_empty()).then_some(&self.push_form);
        let form = self.outputs.iter().find(|output| !output.is_kept()).map(|output| &output.form).or(pushed);
        form.map(|form| form.layers)
    }

    /// Resolves the arguments that say where the image goes.
    ///
    /// # Errors
    /// What cannot be: a name with a digest, an archive on a terminal, notes on an index that there is not.
    pub(crate) fn of(order: &Order<'_>, environment: &Environment) -> Result<Delivery, Failure> {
        let (image, output) = (&order.args.image, &order.args.output);
        let (provenance, sbom) = (provenance(output), sbom(output));
        let attest_place = match output.attest_as {
            AttestAs::Index => AttestPlace::Index,
            AttestAs::Referrers => AttestPlace::Referrers,
        };
        // Statements that stand in an index make one of a single image, too.
        let is_in_index = attest_place == AttestPlace::Index && (provenance.is_some() || sbom);
        let is_index = order.platforms.len() > 1 || is_in_index;
        let outputs = outputs(order)?;
        let own = image.tags.iter().chain(&image.destinations);
        let kept =
            outputs.iter().filter(|output| matches!(output.export, Export::Image(Push::No | Push::Named)));
        let names = names(own.chain(kept.flat_map(|output| &output.names)))?;
        let pushed = match (output.push, output.no_push) {
            (true, _) => names.clone(),
            (false, false) => image.destinations.clone(),
            (false, true) => Vec::new(),
        };
        let delivery = Delivery {
            names,
            pushed,
            push_form: output.compression.form().map_err(Failure::usage)?,
            outputs,
            iidfile: output.iidfile.clone(),
            metadata_file: output.metadata_file.clone(),
            metadata_has_warnings: environment.is_on("BUILDX_METADATA_WARNINGS"),
            annotations: index_annotations(&image.annotations, is_index)?,
            provenance,
            sbom,
            attest_place,
        };
        delivery.check(is_index)?;
        if delivery.uses_stdout() && io::stdout().is_terminal() {
            return Err(Failure::usage("`dest=-` would write an archive to the terminal")
                .hint("redirect standard output"));
        }
        Ok(delivery)
    }

    /// Whether an archive goes to standard output, so that nothing else may.
    pub(crate) fn uses_stdout(&self) -> bool {
        self.outputs.iter().any(Output::uses_stdout)
    }

    /// What no single output can know.
    fn check(&self, is_index: bool) -> Result<(), Failure> {
        if self.outputs.iter().filter(|output| output.uses_stdout()).count() > 1 {
            return Err(Failure::usage("only one output can be written to standard output"));
        }
        for output in &self.outputs {
            let is_attested = self.provenance.is_some() || self.sbom;
            if output.form.family == Some(Family::Docker) && is_attested {
                return Err(Failure::usage("attestations have no place in Docker's media types")
                    .hint("leave `oci-mediatypes=false` out, or the attestations"));
            }
            let is_nameless = output.names.is_empty() && self.names.is_empty();
            if matches!(output.export, Export::Image(Push::Named | Push::ByDigest)) && is_nameless {
                let failure = Failure::usage("an image without a name cannot be pushed");
                return Err(failure.hint("`-t NAME:TAG` gives it one, and so does `name=` of the output"));
            }
            let mut notes = output.form.notes.iter();
            if !is_index && notes.any(|note| matches!(note.level, Level::Index | Level::IndexDescriptor)) {
                return Err(no_index());
            }
        }
        Ok(())
    }
}

/// The last word counts.
fn provenance(args: &OutputArgs) -> Option<Provenance> {
    let asked = args.attest.iter().filter_map(|attest| match attest {
        Attest::Provenance(arg) => Some(arg),
        Attest::Sbom(_) => None,
    });
    asked.chain(&args.provenance).next_back().and_then(|ProvenanceArg(how)| how.clone())
}

fn sbom(args: &OutputArgs) -> bool {
    let asked = args.attest.iter().filter_map(|attest| match attest {
        Attest::Sbom(arg) => Some(arg),
        Attest::Provenance(_) => None,
    });
    asked.chain(&args.sbom).next_back().is_some_and(|SbomArg(wanted)| *wanted)
}

/// Those of `-o`, and kaniko's.
fn outputs(order: &Order<'_>) -> Result<Vec<Output>, Failure> {
    let args = &order.args.output;
    let mut outputs = args.outputs.clone();
    outputs.extend(args.tar_path.clone().map(Output::docker_archive));
    outputs.extend(args.oci_layout_path.clone().map(Output::layout));
    let pushes = |output: &Output| matches!(output.export, Export::Image(Push::Named | Push::ByDigest));
    if args.no_push && outputs.iter().any(pushes) {
        return Err(Failure::usage("`--no-push` contradicts an output that pushes"));
    }
    Ok(outputs)
}

/// A name says what will be built; a digest cannot.
fn names<'a>(references: impl Iterator<Item = &'a Reference>) -> Result<Vec<Reference>, Failure> {
    let mut names = Vec::new();
    for reference in references {
        if reference.digest().is_some() {
            return Err(Failure::has_digest(reference));
        }
        if !names.contains(reference) {
            names.push(reference.clone());
        }
    }
    Ok(names)
}

fn index_annotations(asked: &[Annotation], is_index: bool) -> Result<Annotations, Failure> {
    let of = |level| annotations(asked, level, None);
    let (index, descriptor) = (of(Level::Index), of(Level::IndexDescriptor));
    let has_any = !index.is_empty() || !descriptor.is_empty();
    if has_any && !is_index {
        return Err(no_index());
    }
    Ok(Annotations { index, descriptor })
}

fn no_index() -> Failure {
    Failure::usage("an image of one platform has no index to annotate")
        .hint("without a type an annotation is the manifest's")
}
