//! The table of `RUN --mount`. A row is `value => mount` or `value => ! part of the error`; a mount is shown as its
//! type and what differs from nothing at all.

use super::{MountSpec, Sharing};
use crate::dockerfile::instruction::InstructionKind;
use crate::dockerfile::parse;

const MOUNTS: &str = r#"
    target=/x => bind /x
    type=bind,target=/x => bind /x
    TYPE=BIND,Target=/X => bind /X
    dst=/x => bind /x
    destination=/x => bind /x
    target=x/y => bind x/y
    target=/a,target=/b => bind /b
    target= => bind
    target=/x,source=/s => bind /x source=/s
    target=/x,src=s => bind /x source=s
    target=/x,source=,src=b => bind /x source=b
    target=/x,from=stage => bind /x from=stage
    target=/x,from=0 => bind /x from=0
    target=/x,from=docker.io/library/alpine:3 => bind /x from=docker.io/library/alpine:3
    target=/x,ro => bind /x
    target=/x,readonly => bind /x
    target=/x,ro=true => bind /x
    target=/x,ro=false => bind /x rw
    target=/x,readonly=0 => bind /x rw
    target=/x,rw => bind /x rw
    target=/x,readwrite => bind /x rw
    target=/x,rw=1 => bind /x rw
    target=/x,rw=F => bind /x
    target=/x,rw,ro => bind /x
    target=/x,id=a => bind /x
    target=/x,mode=0755 => ! `mode` is not known for `type=bind`
    target=/x,uid=1 => ! `uid` is not known for `type=bind`
    target=/x,gid=1 => ! `gid` is not known for `type=bind`
    target=/x,size=1m => ! `size` is not known for `type=bind`
    target=/x,required => ! `required` is not known for `type=bind`
    target=/x,required=true => ! `required` is not known for `type=bind`
    target=/x,sharing=shared => ! `sharing` is known for `type=cache` only
    target=/x,env=A => ! `env` is known for `type=secret` only
    target=/x,from=$A => ! variables are not expanded in `from=`
    type=cache,target=/x => cache /x
    type=CACHE,target=/x => cache /x
    type=cache,id=go,target=/x => cache /x id=go
    type=cache,id=,target=/x => cache /x
    type=cache,target=/x,ro => cache /x ro
    type=cache,target=/x,rw => cache /x
    type=cache,target=/x,sharing=shared => cache /x
    type=cache,target=/x,sharing=private => cache /x sharing=private
    type=cache,target=/x,sharing=Locked => cache /x sharing=locked
    type=cache,target=/x,sharing= => ! unknown value `` for mount option `sharing`
    type=cache,target=/x,sharing=loked => ! unknown value `loked`
    type=cache,target=/x,from=a,source=/s => cache /x from=a source=/s
    type=cache,target=/x,mode=0700 => cache /x mode=700
    type=cache,target=/x,mode=1777 => cache /x mode=1777
    type=cache,target=/x,mode=8 => ! `mode` is an octal number
    type=cache,target=/x,mode= => ! `mode` is an octal number
    type=cache,target=/x,mode=-1 => ! `mode` is an octal number
    type=cache,target=/x,mode=u+x => ! `mode` is an octal number
    type=cache,target=/x,mode=77777777777 => ! `mode` is an octal number
    type=cache,target=/x,uid=1000,gid=1000 => cache /x uid=1000 gid=1000
    type=cache,target=/x,uid=4294967295 => cache /x uid=4294967295
    type=cache,target=/x,uid=4294967296 => ! `uid` is a number
    type=cache,target=/x,gid=staff => ! `gid` is a number
    type=cache,target=/x,size=1 => ! `size` is not known for `type=cache`
    type=cache,target=/x,required => ! `required` is not known for `type=cache`
    type=cache,target=/x,env=A => ! `env` is known for `type=secret` only
    type=tmpfs,target=/x => tmpfs /x
    type=tmpfs,target=/x,size=0 => tmpfs /x
    type=tmpfs,target=/x,size=1024 => tmpfs /x size=1024
    type=tmpfs,target=/x,size=1k => tmpfs /x size=1024
    type=tmpfs,target=/x,size=2KB => tmpfs /x size=2048
    type=tmpfs,target=/x,size=1KiB => tmpfs /x size=1024
    type=tmpfs,target=/x,size=64m => tmpfs /x size=67108864
    type=tmpfs,target=/x,size=0.5g => tmpfs /x size=536870912
    type=tmpfs,target=/x,size=1t => tmpfs /x size=1099511627776
    type=tmpfs,target=/x,size=7b => tmpfs /x size=7
    type=tmpfs,target=/x,size=1x => ! `size` is a number of bytes
    type=tmpfs,target=/x,size=-1 => ! `size` is a number of bytes
    type=tmpfs,target=/x,size=1kbb => ! `size` is a number of bytes
    type=tmpfs,target=/x,size=1ki => ! `size` is a number of bytes
    type=tmpfs,target=/x,size= => ! `size` is a number of bytes
    type=tmpfs,target=/x,mode=0755 => ! `mode` is not known for `type=tmpfs`
    type=tmpfs,target=/x,sharing=private => ! `sharing` is known for `type=cache` only
    size=1m,type=tmpfs,target=/x => ! `size` is not known for `type=bind`
    type=secret,id=a => secret a /run/secrets/a
    type=secret,id=a/b => secret a/b /run/secrets/b
    type=secret,source=a => secret a /run/secrets/a
    type=secret,src=a => secret a /run/secrets/a
    type=secret,target=/etc/key => secret key /etc/key
    type=secret,id=a,target=/t => secret a /t
    type=secret,id=a,env=A => secret a env=A
    type=secret,id=a,env=A,target=/t => secret a /t env=A
    type=secret,id=a,env= => secret a /run/secrets/a
    type=secret,id=a,required => secret a /run/secrets/a required
    type=secret,id=a,required=true => secret a /run/secrets/a required
    type=secret,id=a,required=false => secret a /run/secrets/a
    type=secret,id=a,required=yes => ! `required` is `true` or `false`
    type=secret,id=a,mode=0444,uid=1,gid=2 => secret a /run/secrets/a mode=444 uid=1 gid=2
    type=secret => ! needs `id=` or `target=`
    type=secret,env=A => ! needs `id=` or `target=`
    type=secret,id=a,source=b => ! `id=` or `source=`, not both
    type=secret,id=a,from=b => ! `from` is not known for `type=secret`
    type=secret,id=a,sharing=shared => ! `sharing` is known for `type=cache` only
    type=secret,id=a,size=1 => ! `size` is not known for `type=secret`
    required,type=secret,id=a => ! `required` is not known for `type=bind`
    type=ssh => ssh default
    type=ssh,id=key => ssh key
    type=ssh,target=/s => ssh default /s
    type=ssh,required => ssh default required
    type=ssh,required=1 => ssh default required
    type=ssh,mode=0666,uid=1,gid=2 => ssh default mode=666 uid=1 gid=2
    type=ssh,source=a => ! `source` is not known for `type=ssh`
    type=ssh,from=a => ! `from` is not known for `type=ssh`
    type=ssh,env=A => ! `env` is known for `type=secret` only
    type=ssh,sharing=locked => ! `sharing` is known for `type=cache` only
    type= => ! unknown mount type ``
    type=volume => ! unknown mount type `volume`
    type => ! `type` needs a value
    target => ! `target` needs a value
    env => ! `env` needs a value
    target=/x,what=1 => ! unknown mount option `what`
    target=/x,what => ! unknown mount option `what`
    target=/x, => ! unknown mount option ``
    target=/a=b => bind /a=b
    "target=/a" => bind /a
    \"target=/a,b\",rw => bind /a,b rw
    \"target=/a => ! never closed
    \"target=/a\"b => ! expected a comma
    target="/a b" => bind /a b
    target='/a b',rw => bind /a b rw
    target=\'/a\' => bind /a
"#;

#[test]
fn every_option_has_its_meaning() {
    let mut rows = 0;
    for row in MOUNTS.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (value, expected) = row.split_once(" =>").expect(row);
        let found = parse(&format!("FROM scratch\nRUN --mount={value} x\n"));
        match (found, expected.trim().strip_prefix("! ")) {
            (Err(found), Some(part)) => {
                assert!(found[0].message.contains(part), "{row}: {}", found[0].message);
                let span = found[0].span.expect("a place");
                assert!(span.start.line == 2 && span.start.column >= 5, "{row}: {span:?}");
            }
            (Ok(dockerfile), None) => {
                let InstructionKind::Run(run) = &dockerfile.instructions[1].kind else { panic!("{row}") };
                let unquoted = |text: &str| text.replace('\'', "");
                let spec = run.mounts[0].resolve(&mut |word| Ok(unquoted(&word.text))).expect(row);
                assert_eq!(show(&spec), expected.trim(), "{row}");
            }
            (found, _) => panic!("{row}: {found:?}"),
        }
        rows += 1;
    }
    assert!(rows >= 120, "{rows} rows");
}

fn show(spec: &MountSpec) -> String {
    let mut parts = Vec::new();
    let mut add =
        |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name}{value}")));
    let flag = |given: bool| given.then(String::new);
    let owner = |mode: &Option<u32>, uid: &Option<u32>, gid: &Option<u32>| {
        [
            ("mode=", mode.map(|mode| format!("{mode:o}"))),
            ("uid=", uid.map(|uid| uid.to_string())),
            ("gid=", gid.map(|gid| gid.to_string())),
        ]
    };
    match spec.clone() {
        MountSpec::Bind { target, source, from, writable } => {
            add("bind ", Some(target));
            add("from=", from);
            add("source=", source);
            add("rw", flag(writable));
        }
        MountSpec::Cache { target, id, source, from, read_only, sharing, mode, uid, gid } => {
            add("cache ", Some(target));
            add("id=", id);
            add("from=", from);
            add("source=", source);
            add("ro", flag(read_only));
            add("sharing=private", flag(sharing == Sharing::Private));
            add("sharing=locked", flag(sharing == Sharing::Locked));
            owner(&mode, &uid, &gid).into_iter().for_each(|(name, value)| add(name, value));
        }
        MountSpec::Tmpfs { target, size_bytes } => {
            add("tmpfs ", Some(target));
            add("size=", size_bytes.map(|bytes| bytes.to_string()));
        }
        MountSpec::Secret { id, target, env, required, mode, uid, gid } => {
            add("secret ", Some(id));
            add("", target);
            add("env=", env);
            add("required", flag(required));
            owner(&mode, &uid, &gid).into_iter().for_each(|(name, value)| add(name, value));
        }
        MountSpec::Ssh { id, target, required, mode, uid, gid } => {
            add("ssh ", Some(id));
            add("", target);
            add("required", flag(required));
            owner(&mode, &uid, &gid).into_iter().for_each(|(name, value)| add(name, value));
        }
    }
    parts.join(" ").trim_end().to_owned()
}
