//! Lowering, driven through real Dockerfiles against a base image whose configuration is known.

use std::collections::BTreeMap;

use layerfs::snapshot::SnapshotId;
use oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Raw, Reference};

use super::*;
use crate::error::ImageError;
use crate::plan::{MountKind, Origin, Plan, StepKind};
use crate::request::{Context, Files, NamedContext};
use crate::source::{BaseImage, ImageSource, Progress};
use crate::stage::{self, Scope};

fn request(dockerfile: &str, args: &[(&str, &str)]) -> Request {
    Request {
        build_args: args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        platform: Platform::new("linux", "amd64", None),
        ..Request::new(dockerfile, Files::Directory(context()))
    }
}

fn context() -> Context {
    Context::open("/".into()).unwrap()
}

/// Two images for whatever platform: `base` with an environment, a user, a command and a working directory, and
/// `onbuild`, which has triggers besides.
struct Known;

impl ImageSource for Known {
    fn resolve(&self, reference: &Reference, _: &Platform, _: bool) -> Result<BaseImage, ImageError> {
        let triggers = match reference.familiar().as_str() {
            "onbuild:latest" => r#""OnBuild":["ARG X=1","COPY --from=base /a /b","RUN echo $X"],"#,
            "broken:latest" => r#""OnBuild":["COPPY a b"],"#,
            _ => "",
        };
        let config: ImageConfig = serde_json::from_str(&format!(
            r#"{{"architecture":"amd64","os":"linux","author":"someone","config":{{{triggers}
            "Env":["PATH=/bin","FROM_BASE=1"],"User":"app","Cmd":["old"],"Entrypoint":["/old"],"WorkingDir":"/srv",
            "Labels":{{"a":"1"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        ))
        .unwrap();
        let config = Raw::write(config);
        let manifest =
            Raw::write(Manifest::oci(Descriptor::new(MediaType::OciConfig, config.digest(), 1), Vec::new()));
        let descriptor = Descriptor::new(MediaType::OciManifest, Digest::of(b"m"), 1);
        BaseImage::new(reference.clone(), descriptor, manifest, config)
    }

    fn fetch(&self, _: &BaseImage, _: Progress<'_>) -> Result<(), ImageError> {
        unreachable!("lowering fetches nothing")
    }

    fn snapshot(&self, _: &BaseImage, _: Progress<'_>) -> Result<Option<SnapshotId>, ImageError> {
        unreachable!("lowering unpacks nothing")
    }
}

fn plan_of(request: &Request) -> Result<Plan, Vec<String>> {
    let messages = |error: Error| match error {
        Error::Dockerfile { diagnostics } => diagnostics.into_iter().map(|d| d.message).collect(),
        other => vec![other.to_string()],
    };
    let dockerfile = stage::parse(request).map_err(messages)?;
    let (stages, bases) = stage::resolve(&dockerfile, request, &Known, Scope::Target).map_err(messages)?;
    lower(&stages, &bases, request, &mut Vec::new()).map_err(messages)
}

fn plan(dockerfile: &str, args: &[(&str, &str)]) -> Plan {
    plan_of(&request(dockerfile, args)).unwrap_or_else(|errors| panic!("{dockerfile}\n{errors:?}"))
}

fn target(dockerfile: &str, args: &[(&str, &str)]) -> Stage {
    let plan = plan(dockerfile, args);
    plan.stages[plan.target].clone()
}

fn run_env(stage: &Stage) -> BTreeMap<String, String> {
    let StepKind::Run(run) = &stage.steps.last().unwrap().kind else { panic!("not a RUN") };
    run.env.iter().cloned().collect()
}

#[test]
fn the_last_writer_of_a_variable_wins() {
    for (dockerfile, args, expected) in [
        ("FROM base\nARG A=1\nRUN x", &[][..], Some("1")),
        ("FROM base\nARG A=1\nRUN x", &[("A", "2")], Some("2")),
        ("FROM base\nARG A\nRUN x", &[], None),
        ("FROM base\nENV A=env\nARG A\nRUN x", &[], Some("env")),
        ("FROM base\nENV A=env\nARG A=arg\nRUN x", &[], Some("arg")),
        ("FROM base\nARG A=arg\nENV A=env\nRUN x", &[("A", "given")], Some("env")),
        ("ARG A=global\nFROM base\nARG A\nRUN x", &[], Some("global")),
        ("ARG A=global\nFROM base\nARG A=own\nRUN x", &[], Some("own")),
        ("ARG A=global\nFROM base\nRUN x", &[("A", "given")], None),
        ("FROM base AS a\nARG A=1\nFROM a\nRUN x", &[], Some("1")),
        ("FROM base AS a\nENV A=env\nARG A=arg\nFROM a\nRUN x", &[], Some("env")),
        ("FROM base\nARG B=1 A=$B\nRUN x", &[], Some("1")),
        ("FROM base\nENV A=old\nENV A=new B=$A\nENV A=$B\nRUN x", &[], Some("old")),
    ] {
        let found = run_env(&target(dockerfile, args)).get("A").cloned();
        assert_eq!(found.as_deref(), expected, "{dockerfile} {args:?}");
    }
    let env = run_env(&target("FROM base\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN x", &[]));
    assert_eq!((env["TARGETARCH"].as_str(), env["TARGETPLATFORM"].as_str()), ("amd64", "linux/amd64"));
}

fn run_proxies(given: &str) -> Vec<String> {
    let stage = target("FROM base\nRUN x", &[(given, "p")]);
    let StepKind::Run(run) = &stage.steps[0].kind else { panic!("not a RUN") };
    run.proxy_env.iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn proxies_reach_the_command_and_nothing_else() {
    let stage = target("FROM base\nRUN x", &[("http_proxy", "p")]);
    let StepKind::Run(run) = &stage.steps[0].kind else { panic!("not a RUN") };
    let names: Vec<_> = run.proxy_env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(names, [("HTTP_PROXY", "p"), ("http_proxy", "p")]);
    assert!(!stage.history[0].created_by.contains('p') || !stage.history[0].created_by.contains("proxy"));
    assert_eq!(run_proxies("Http_Proxy"), ["HTTP_PROXY", "http_proxy"]);
    let declared = target("FROM base\nARG http_proxy\nRUN x", &[("http_proxy", "p")]);
    assert!(declared.history[1].created_by.contains("|1 http_proxy=p"));
}

#[test]
fn history_is_spelt_as_buildkit_does() {
    let dockerfile = "FROM base\nARG V=1\nENV A=b C=\"d e\"\nLABEL x=y\nRUN echo $A\nRUN [\"a\", \"b\"]\n\
        COPY --chown=1:2 f g/ /d/\nADD --chmod=755 f /e\nWORKDIR sub\nUSER u\nEXPOSE 443 80/udp\n\
        VOLUME /v /w\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo \"x\"\nENTRYPOINT [\"/e\"]\n\
        HEALTHCHECK --interval=90s CMD true\nMAINTAINER me\n";
    let lines: Vec<_> =
        target(dockerfile, &[]).history.into_iter().map(|l| (l.created_by, l.has_layer)).collect();
    let expected = [
        ("ARG V=1", false),
        ("ENV A=b C=d e", false),
        ("LABEL x=y", false),
        ("RUN |1 V=1 /bin/sh -c echo $A # buildkit", true),
        ("RUN |1 V=1 a b # buildkit", true),
        ("COPY --chown=1:2 f g/ /d/ # buildkit", true),
        ("ADD --chmod=755 f /e # buildkit", true),
        ("WORKDIR /srv/sub", true),
        ("USER u", false),
        ("EXPOSE [443/tcp 80/udp]", false),
        ("VOLUME [/v /w]", false),
        ("STOPSIGNAL SIGINT", false),
        ("SHELL [/bin/bash -c]", false),
        ("CMD [\"/bin/bash\" \"-c\" \"echo \\\"x\\\"\"]", false),
        ("ENTRYPOINT [\"/e\"]", false),
        (
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            false,
        ),
        ("MAINTAINER me", false),
    ];
    for (found, (text, has_layer)) in lines.iter().zip(expected) {
        assert_eq!((found.0.as_str(), found.1), (text, has_layer));
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn an_entrypoint_forgets_an_inherited_command_only() {
    let config = |dockerfile| target(dockerfile, &[]).config;
    let inherited = config("FROM base\nLABEL x=y");
    assert_eq!(inherited.cmd, Some(vec!["old".to_owned()]));
    assert_eq!(config("FROM base\nENTRYPOINT [\"/e\"]").cmd, None);
    assert_eq!(config("FROM base\nCMD [\"c\"]\nENTRYPOINT [\"/e\"]").cmd, Some(vec!["c".to_owned()]));
    assert_eq!(config("FROM base AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"/e\"]").cmd, None);
    assert_eq!(config("FROM base\nENTRYPOINT []").entrypoint, None);
    assert_eq!(config("FROM base\nCMD []").cmd, Some(Vec::new()));
}

#[test]
fn paths_are_absolute_and_clean() {
    let destination = |workdir: &str, to: &str| {
        let text = format!("FROM scratch\nWORKDIR {workdir}\nCOPY f {to}\n");
        let stage = target(&text, &[]);
        let StepKind::Copy(copy) = &stage.steps.last().unwrap().kind else { panic!("not a COPY") };
        copy.destination.clone()
    };
    for (workdir, to, expected) in [
        ("/a", "b", "/a/b"),
        ("/a", "b/", "/a/b/"),
        ("/a", ".", "/a/"),
        ("/a", "./", "/a/"),
        ("/a", "/x/../y/.", "/y/"),
        ("/", ".", "/"),
        ("/a", "../../b", "/b"),
    ] {
        assert_eq!(destination(workdir, to), expected, "{workdir} {to}");
    }
    let stage = target("FROM base\nWORKDIR a\nWORKDIR ../b\nWORKDIR /", &[]);
    assert_eq!(stage.config.working_dir, "/");
    let layers: Vec<bool> = stage.history.iter().map(|line| line.has_layer).collect();
    assert_eq!(layers, [true, true, false]);
}

#[test]
fn scratch_has_a_path_and_bases_keep_theirs() {
    let path = |config: &ContainerConfig| config.env.iter().find(|e| e.starts_with("PATH=")).cloned();
    let expected = format!("PATH={DEFAULT_PATH}");
    assert_eq!(path(&target("FROM scratch\nCMD x", &[]).config), Some(expected));
    assert_eq!(path(&target("FROM base\nCMD x", &[]).config).as_deref(), Some("PATH=/bin"));
}

#[test]
fn only_needed_stages_are_planned() {
    let dockerfile = "FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM unresolved AS c\nRUN c\nFROM a\nCOPY --from=b / /\n";
    let plan = plan(dockerfile, &[]);
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!((names, plan.target), (vec!["a", "b", "3"], 2));
    let mut request = request(dockerfile, &[]);
    request.target = Some("A".to_owned());
    assert_eq!(plan_of(&request).unwrap().stages.len(), 1);
    request.target = Some("aa".to_owned());
    assert_eq!(plan_of(&request).unwrap_err(), ["no stage is named `aa`"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    for (dockerfile, expected) in [
        (
            "FROM base\nEXPOSE http\nARG S=SIGNO\nSTOPSIGNAL $S\nVOLUME \"\"\n",
            &[
                "`http` is not a port: expected `port[-port][/protocol]`, up to 65535",
                "`SIGNO` is not a signal: expected a name such as `SIGTERM` or a number",
            ][..],
        ),
        ("FROM base AS a\nCOPY --from=a x /\n", &["the stage `a` cannot copy from itself"]),
        (
            "FROM base\nCOPY --from=b x /\nFROM base AS b\nFROM base\nCOPY --from=0 x /\n",
            &["the stage `b` comes after this one; it must be defined before"],
        ),
        ("ARG X\nFROM $X\n", &["the base image's name `$X` is empty"]),
        ("FROM base\nCOPY https://a/b /\n", &["`COPY` cannot fetch `https://a/b`; `ADD` can"]),
        ("FROM base\nRUN --mount=type=tmpfs,target=/ y\n", &["a mount cannot cover `/`"]),
        ("FROM base\nRUN --security=insecure y\n", &["`RUN --security=insecure` is not allowed"]),
        ("FROM base\nARG X\nCOPY --from=$X a b\n", &["`--from=$X` is empty"]),
        (
            "FROM base\nADD --checksum=sha256:00 a b\n",
            &["`--checksum` is for URLs and git repositories only"],
        ),
        ("FROM broken\n", &["the base image's `ONBUILD COPPY a b`: unknown instruction `COPPY`"]),
    ] {
        let found = plan_of(&request(dockerfile, &[])).expect_err(dockerfile);
        assert_eq!(&found[..expected.len()], expected, "{dockerfile}");
    }
}

#[test]
fn triggers_come_first_and_once() {
    let plan = plan("FROM onbuild AS a\nRUN own\nFROM a\nRUN child\n", &[]);
    let texts = |at: usize| -> Vec<&str> { plan.stages[at].steps.iter().map(|s| s.text.as_str()).collect() };
    assert_eq!(texts(0), ["ONBUILD COPY --from=base /a /b", "ONBUILD RUN echo $X", "RUN own"]);
    assert_eq!(texts(1), ["RUN child"]);
    assert!(plan.stages.iter().all(|stage| stage.config.on_build.is_none()));
    let lines: Vec<_> = plan.stages[0].history.iter().map(|line| line.created_by.as_str()).collect();
    let run = "RUN |1 X=1 /bin/sh -c echo $X # buildkit";
    assert_eq!(lines[..3], ["ARG X=1", "COPY /a /b # buildkit", run]);
    let StepKind::Copy(copy) = &plan.stages[0].steps[0].kind else { panic!("not a COPY") };
    assert!(
        matches!(&copy.inputs[0].origin, Origin::Image(image) if image.reference.familiar() == "base:latest")
    );
}

#[test]
fn stages_pass_triggers_on() {
    let dockerfile = "FROM base AS tool\nFROM base AS a\nONBUILD COPY --from=tool /a /b\nFROM a\n";
    let plan = plan(dockerfile, &[]);
    assert_eq!(plan.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["tool", "a", "2"]);
    let StepKind::Copy(copy) = &plan.stages[2].steps[0].kind else { panic!("not a COPY") };
    assert_eq!(copy.inputs[0].origin, Origin::Stage(0));
    assert_eq!(plan.stages[1].config.on_build.as_deref(), Some(&["COPY --from=tool /a /b".to_owned()][..]));
    assert_eq!(plan.stages[2].config.on_build, None);
}

#[test]
fn from_sees_arguments() {
    let dockerfile = "ARG G=one\nFROM base AS one\nFROM base AS two\nFROM base\nARG G\nARG L=tw\n\
        COPY --from=$G a b\nCOPY --from=${L}o a b\n";
    let origins = |args: &[(&str, &str)]| -> Vec<Origin> {
        let target = target(dockerfile, args);
        target.steps.iter().map(|step| step.inputs()[0].origin.clone()).collect()
    };
    assert_eq!(origins(&[]), [Origin::Stage(0), Origin::Stage(1)]);
    assert_eq!(origins(&[("G", "two")]), [Origin::Stage(0), Origin::Stage(0)]);
}

#[test]
fn named_contexts_come_before_stages_and_images() {
    let dockerfile = "FROM base AS tool\nRUN x\nFROM alpine:3\nCOPY --from=tool a b\nCOPY --from=Other c d\n";
    let mut request = request(dockerfile, &[]);
    request.contexts = BTreeMap::from([
        ("tool".to_owned(), NamedContext::Directory(context())),
        ("other".to_owned(), NamedContext::Image("busybox".parse().unwrap())),
        ("docker.io/library/alpine:3".to_owned(), NamedContext::Image("base".parse().unwrap())),
    ]);
    let plan = plan_of(&request).unwrap();
    assert_eq!(plan.stages.len(), 1);
    let stage = &plan.stages[0];
    assert!(matches!(&stage.base, Base::Image(image) if image.reference.familiar() == "base:latest"));
    let origins: Vec<_> = stage.steps.iter().map(|step| step.inputs()[0].origin.clone()).collect();
    assert_eq!(origins[0], Origin::Named("tool".to_owned()));
    assert!(matches!(&origins[1], Origin::Image(image) if image.reference.familiar() == "busybox:latest"));
}

#[test]
fn a_named_context_stands_in_place_of_the_whole_stage() {
    let dockerfile = "FROM base AS tool\nRUN x\nFROM base\nCOPY --from=0 a b\n";
    let mut request = request(dockerfile, &[]);
    request.contexts = BTreeMap::from([("tool".to_owned(), NamedContext::Image("busybox".parse().unwrap()))]);
    let plan = plan_of(&request).unwrap();
    assert!(
        matches!(&plan.stages[0].base, Base::Image(image) if image.reference.familiar() == "busybox:latest")
    );
    assert!(plan.stages[0].steps.is_empty());
    request.target = Some("tool".to_owned());
    assert!(plan_of(&request).unwrap().stages[0].steps.is_empty());
}

#[test]
fn scratch_is_nothing_wherever_it_stands() {
    let stage = target("FROM base\nCOPY --from=scratch / /x/\nRUN --mount=from=scratch,target=/y z\n", &[]);
    assert!(stage.steps.iter().all(|step| step.inputs()[0].origin == Origin::Scratch));
}

#[test]
fn the_last_from_of_a_mount_counts_and_an_empty_one_is_none() {
    let dockerfile = "FROM base AS a\nFROM base AS b\nFROM base\nRUN --mount=from=a,from=b,target=/x y\n\
        RUN --mount=from=,target=/x y\n";
    let stage = target(dockerfile, &[]);
    let origins: Vec<_> = stage.steps.iter().map(|step| step.inputs()[0].origin.clone()).collect();
    assert_eq!(origins, [Origin::Stage(0), Origin::Context]);
}

#[test]
fn a_context_can_be_a_base() {
    let mut request = request("FROM files\nRUN x\n", &[]);
    request.contexts = BTreeMap::from([("files".to_owned(), NamedContext::Directory(context()))]);
    let plan = plan_of(&request).unwrap();
    assert_eq!((&plan.stages[0].base, plan.stages[0].steps.len()), (&Base::Scratch, 2));
    assert_eq!(plan.stages[0].history[0].created_by, "FROM files # buildkit");
}

#[test]
fn mounts_are_lowered() {
    let dockerfile = "FROM base\nARG T=cache\nWORKDIR /w\nRUN --mount=type=$T,target=c,uid=3 \
        --mount=type=secret,id=k,env=K --mount=type=ssh --mount=type=ssh,id=b,required=true x\n";
    let stage = target(dockerfile, &[("BUILDKIT_CACHE_MOUNT_NS", "ns")]);
    let StepKind::Run(run) = &stage.steps[1].kind else { panic!("not a RUN") };
    let [cache, secret, first, second] = &run.mounts[..] else { panic!("four mounts") };
    assert!(matches!(&cache.kind, MountKind::Cache { target, id, access, .. }
        if target == Path::new("/w/c") && id == "ns//w/c" && (access.mode, access.uid) == (0o755, 3)));
    assert!(matches!(&secret.kind, MountKind::Secret { target: None, env: Some(env), .. } if env == "K"));
    assert!(matches!(&first.kind, MountKind::Ssh { target, required: false, .. }
        if target == Path::new("/run/buildkit/ssh_agent.0")));
    assert!(matches!(&second.kind, MountKind::Ssh { target, required: true, .. }
        if target == Path::new("/run/buildkit/ssh_agent.1")));
}

#[test]
fn the_epoch_is_the_requests_or_the_dockerfiles() {
    for (dockerfile, args, given, expected) in [
        ("FROM base", &[][..], Some(7), Some(7)),
        ("ARG SOURCE_DATE_EPOCH=5\nFROM base", &[], None, Some(5)),
        ("ARG SOURCE_DATE_EPOCH=5\nFROM base", &[("SOURCE_DATE_EPOCH", "")], None, None),
        ("ARG SOURCE_DATE_EPOCH=5\nFROM base", &[("SOURCE_DATE_EPOCH", "6")], None, Some(6)),
        ("ARG SOURCE_DATE_EPOCH=context\nFROM base", &[], None, None),
        ("FROM base", &[("SOURCE_DATE_EPOCH", "6")], None, Some(6)),
    ] {
        let mut request = request(dockerfile, args);
        request.epoch = given;
        assert_eq!(plan_of(&request).unwrap().epoch, expected, "{dockerfile} {args:?}");
    }
    let error = plan_of(&request("ARG SOURCE_DATE_EPOCH=soon\nFROM base", &[])).unwrap_err();
    assert_eq!(error, ["expected `SOURCE_DATE_EPOCH` in seconds since 1970 or `context`, found `soon`"]);
}

#[test]
fn some_stages_skip_the_cache() {
    let mut request = request("FROM base AS a\nRUN x\nFROM a\nRUN y\n", &[]);
    request.no_cache = NoCache::Stages(vec!["a".to_owned()]);
    let skips: Vec<_> = plan_of(&request).unwrap().stages.iter().map(|stage| stage.no_cache).collect();
    assert_eq!(skips, [true, false]);
}

#[test]
fn breaches_of_rules_are_told_or_fail_the_build() {
    let judge = |directive: &str| {
        let request = request(&format!("{directive}FROM base as x\nCMD $y\nUSER $z\n"), &[]);
        let told = std::sync::Mutex::new(Vec::new());
        let dockerfile = stage::parse(&request).unwrap();
        let (stages, bases) = stage::resolve(&dockerfile, &request, &Known, Scope::Target).unwrap();
        let mut found = Vec::new();
        lower(&stages, &bases, &request, &mut found).unwrap();
        let result = crate::lint::judge(found, &dockerfile, (&stages, &bases), &request, &|event| {
            let crate::Event::Warning { warning } = event else { panic!("{event:?}") };
            told.lock().unwrap().push(warning.rule.unwrap_or("a setting"));
        });
        (told.into_inner().unwrap(), result.map_err(|error| error.to_string()))
    };
    assert_eq!(judge(""), (vec!["FromAsCasing", "JSONArgsRecommended", "UndefinedVar"], Ok(())));
    assert_eq!(
        judge("# check=skip=all,\n"),
        (vec!["a setting", "FromAsCasing", "JSONArgsRecommended", "UndefinedVar"], Ok(()))
    );
    assert_eq!(judge("# check=skip=all;error=true\n"), (vec![], Ok(())));
    let violation = "lint violation found for rules: FromAsCasing, UndefinedVar";
    assert_eq!(judge("# check=skip=JSONArgsRecommended;error=true\n"), (vec![], Err(violation.to_owned())));
    assert!(judge("# check=nonsense\n").1.is_err());
}
