//! `lbuild build`: Dockerfile in, image out, delivered.
//!
//! Order → gather what is elsewhere → one build a platform → the store → registries and files → what is said of it.
//! Whatever fails on this way fails the command, and what was delivered before stays. [`mod@answer`] answers `--call`
//! instead, [`outputs`] is about where the images go, [`interrupt`] about signals, [`record`] about the files that tell of
//! the image.

mod answer;
mod interrupt;
mod mirror;
mod outputs;
mod record;

use builder::cache::LocalCache;
use builder::deliver::LayerForm;
use builder::exec::Containers;
use builder::remote::Fetcher;
use builder::source::Images;
use builder::{Backends, Event, Image};
use oci::{Platform, Reference};
use runner::Launcher;

use crate::args::BuildArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::{Failure, Source};
use crate::home::{Home, Registries};
use crate::output;
use crate::progress::Progress;
use crate::request::{Delivery, Gatherer, Material, Order, annotate_entry};
use crate::signal::Signals;
use interrupt::{Interrupt, Interruptible, InterruptibleFetch};
use mirror::Mirrored;

pub(crate) use answer::answer;

pub(crate) fn build(
    args: &BuildArgs,
    session: &Session,
    launcher: &Launcher,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let environment = &session.environment;
    let order = Order::of(args, environment)?;
    let delivery = Delivery::of(&order, environment)?;
    let keep_storage = environment.keep_storage()?;
    let progress = Progress::new(args.output.progress, args.output.quiet)?;
    let home = session.open_home()?;
    let registries = Registries::for_push(&args.registries(), args.output.push_retry, environment, &home)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let mirrored = Mirrored { images: &images, store: &home.store, mirrors: &args.registry.mirrors };
    let fetcher = Fetcher::new(&home.store, &*snapshots, &registries.client, order.fetching(environment));
    let containers = Containers::new(launcher);
    let interrupt = Interrupt::new(&containers, &progress);
    let backends = Backends {
        store: &home.store,
        snapshots: &*snapshots,
        images: &Interruptible { images: &mirrored, interrupt: &interrupt },
        executor: &containers,
        cache: &LocalCache::new(&home.store, &*snapshots),
        remotes: &InterruptibleFetch { remotes: &fetcher, interrupt: &interrupt },
    };
    let works = Works { home: &home, registries: &registries, backends: &backends, progress: &progress };

    let delivered = interrupt.watch(signals, || {
        let gatherer = Gatherer {
            store: &home.store,
            snapshots: &*snapshots,
            remotes: backends.remotes,
            progress: &progress,
        };
        let material = order.gather(&gatherer, &|| interrupt.cancel.is_cancelled())?;
        let images = works.build(&order, &material, delivery.layers_leave_as(), &interrupt)?;
        interrupt
            .remotely(|| works.deliver(&images, &delivery))
            .map(|artifact| (artifact, material.dockerfile))
    });
    progress.finish();
    let (artifact, dockerfile) = match delivered {
        Ok(delivered) => delivered,
        Err(failure) => {
            progress.warn();
            return Err(failure);
        }
    };
    record::record(&artifact, &delivery, &dockerfile, &progress.warnings())?;
    if args.output.quiet && !delivery.uses_stdout() {
        output::print(&format!("{}\n", artifact.descriptor().digest))?;
    }
    let names: Vec<String> = delivery.names.iter().map(Reference::familiar).collect();
    progress.summary(&command::summary(&artifact, &names));
    progress.warn();
    command::prune::keep_within(keep_storage, &home);
    Ok(Exit::Done)
}

/// What building and delivering work with.
struct Works<'a> {
    home: &'a Home,
    registries: &'a Registries,
    backends: &'a Backends<'a>,
    progress: &'a Progress,
}

impl Works<'_> {
    /// One image a platform, in the order asked for.
    fn build(
        &self,
        order: &Order<'_>,
        material: &Material,
        layers_leave_as: Option<LayerForm>,
        interrupt: &Interrupt<'_>,
    ) -> Result<Vec<Image>, Failure> {
        let facts = self.home.facts(self.registries);
        let is_one = order.platforms().len() == 1;
        let platforms = order.platforms().iter().enumerate();
        platforms
            .map(|(nth, platform)| {
                let mut request = order.request(material, platform);
                request.layers_leave_as = layers_leave_as;
                let source = Source { name: &request.dockerfile_name, text: &request.dockerfile };
                let show =
                    |event| self.progress.show(if is_one { event } else { label(event, nth, platform) });
                let mut image = builder::build(&request, self.backends, &interrupt.cancel, &show)
                    .map_err(|error| Failure::build(&error, source, &facts))?;
                annotate_entry(order, platform, &mut image.descriptor);
                Ok(image)
            })
            .collect()
    }
}

/// The same event with its platform, and apart from other platforms' events.
fn label(event: Event, nth: usize, platform: &Platform) -> Event {
    /// More lines than a build has.
    const LINES: usize = 1 << 20;
    let own = |vertex| nth * LINES + vertex;
    match event {
        Event::Started { vertex, name } => Event::Started {
            vertex: own(vertex),
            name: match name.strip_prefix('[') {
                Some(rest) => format!("[{platform} {rest}"),
                None => format!("[{platform}] {name}"),
            },
        },
        Event::Cached { vertex } => Event::Cached { vertex: own(vertex) },
        Event::Output { vertex, bytes } => Event::Output { vertex: own(vertex), bytes },
        Event::Transfer { vertex, label, done_bytes, total_bytes } => {
            Event::Transfer { vertex: own(vertex), label, done_bytes, total_bytes }
        }
        Event::Finished { vertex, elapsed } => Event::Finished { vertex: own(vertex), elapsed },
        Event::Failed { vertex, elapsed } => Event::Failed { vertex: own(vertex), elapsed },
        Event::Warning { warning } => Event::Warning { warning },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_platforms_say_which() {
        let platform = "linux/arm64".parse().unwrap();
        for (name, expected) in [
            ("[2/3] RUN make", "[linux/arm64 2/3] RUN make"),
            ("[build 2/3] RUN make", "[linux/arm64 build 2/3] RUN make"),
            ("resolving alpine", "[linux/arm64] resolving alpine"),
        ] {
            let event = Event::Started { vertex: 3, name: name.to_owned() };
            let Event::Started { vertex, name } = label(event, 1, &platform) else { panic!("{name}") };
            assert_eq!((vertex, name.as_str()), ((1 << 20) + 3, expected));
        }
    }
}
